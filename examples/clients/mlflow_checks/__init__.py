"""The checks of check_mlflow_client.py, by what they exercise."""
