"""What may be sent to a cloud, and what becomes of it: policy, budget, outbox, decision log."""
