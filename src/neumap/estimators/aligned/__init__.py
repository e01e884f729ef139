"""A series of maps that are comparable.

``relations`` says which rows are related, ``together`` trains free positions and ``one_network`` a
network, ``learned`` is the result and ``model`` the estimator.
"""
