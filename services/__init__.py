"""What runs beside the loop: the API and the dashboard."""
