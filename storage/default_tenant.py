"""The tenant of rows that name none, apart from all SQL, so that settings are read without it."""

#: `projects.tenant_id` is NULL in files from before tenants; such projects belong to this one.
DEFAULT_TENANT = "user_0"
