"""The load balancer: routing in, an nginx that is *seen* to follow it out."""
