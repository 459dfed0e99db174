"""Lambda: functions from the built zip in processes under AWS's runtime interface client."""
