"""What runs in a control node: the balancer and the scaler."""
