"""Model Swarms: particles drawn to their own best and the swarm's."""
