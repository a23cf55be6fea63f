"""The dataset cache: a folder that several users, containers and machines share."""
