"""Pictures of domains; matplotlib draws them."""
