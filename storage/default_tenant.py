"""The default tenant. It has its own module, so that settings can be read without loading SQLAlchemy."""

#: The tenant of projects whose `tenant_id` is NULL, as in files from before there were tenants.
DEFAULT_TENANT = "user_0"
