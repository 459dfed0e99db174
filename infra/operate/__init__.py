"""Commands that operate a deployed stage; they read and write through AWS's APIs."""
