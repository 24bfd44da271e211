"""How a server is doing: findings for the API and the dashboard, figures for Prometheus.

access_check  asks the access URL from outside, every ten minutes
checks        collects the signs of health: database, STUN, certificates, relay map
findings      signs to findings, each with its remedy; pure
report        what is measured, as the API's health report and as figures
exposition    figures in Prometheus's text format; pure
routes        /healthz, /readyz and /metrics
"""
