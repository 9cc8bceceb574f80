"""The default tenant. It has its own module, so that settings can be read without loading SQLAlchemy.

Commands without a tenant use the setting `tenant`. Flow runs without a tenant use the default tenant, which
`flows.orchestration.compiler` writes into their parameters.
"""

#: The tenant of projects whose `tenant_id` is NULL, as in databases from before tenants were introduced.
DEFAULT_TENANT = "user_0"
