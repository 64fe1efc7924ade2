"""One module per subcommand of `foggen`."""
