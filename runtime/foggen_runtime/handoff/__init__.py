"""What may be sent to a cloud, and what happens then: policy, budget, outbox, decision log."""
