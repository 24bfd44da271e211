"""Health of a running server: findings for the API and the dashboard, metrics for Prometheus.

access_check  requests the access URL as a client would, every ten minutes
checks        collects the signs of health: database, STUN, certificates, relay map
findings      turns signs into findings, each with a fix; pure
report        assembles health report, readiness and metrics
exposition    writes metrics in Prometheus's text format; pure
routes        /healthz, /readyz and /metrics
"""
