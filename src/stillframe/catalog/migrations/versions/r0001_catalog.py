"""The first catalog: every record of the domain, the handed-out timelines, and the job queue's own tables.

One script, sent in one piece: a service that starts on a fresh data directory waits for it.
"""

from alembic import op

from stillframe.catalog import job_schema
from stillframe.catalog.driver import run_script

revision = "0001"
down_revision = None

CREATE = """
CREATE TABLE namespaces (
    id uuid NOT NULL,
    account text NOT NULL,
    region text NOT NULL,
    name text NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    admin_username text NOT NULL,
    admin_verifier text NOT NULL,
    admin_secret_id uuid,
    admin_secret_kms_key_id text,
    db_name text NOT NULL,
    kms_key_id text NOT NULL,
    default_iam_role_arn text,
    iam_roles jsonb NOT NULL,
    log_exports jsonb NOT NULL,
    incarnation_id uuid,
    operation_id uuid,
    CONSTRAINT namespaces_pkey PRIMARY KEY (id),
    CONSTRAINT namespaces_account_region_name_key UNIQUE (account, region, name),
    CONSTRAINT namespaces_status_check CHECK (status IN ('AVAILABLE', 'DELETING', 'MODIFYING'))
);
CREATE INDEX namespaces_account_region_created_at_id_idx
    ON namespaces (account, region, created_at, id);

CREATE TABLE incarnations (
    id uuid NOT NULL,
    namespace_id uuid NOT NULL,
    lineage_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    system_identifier numeric(20, 0),
    timeline bigint NOT NULL,
    origin_snapshot_id uuid,
    ancestry jsonb NOT NULL,
    CONSTRAINT incarnations_pkey PRIMARY KEY (id),
    CONSTRAINT incarnations_id_namespace_id_key UNIQUE (id, namespace_id),
    CONSTRAINT incarnations_lineage_id_key UNIQUE (lineage_id),
    CONSTRAINT incarnations_namespace_id_fkey
        FOREIGN KEY (namespace_id)
        REFERENCES namespaces (id) ON DELETE CASCADE
        DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT incarnations_timeline_check CHECK (timeline BETWEEN 1 AND 4294967295),
    CONSTRAINT incarnations_system_identifier_check
        CHECK (system_identifier BETWEEN 0 AND 18446744073709551615::numeric)
);
CREATE INDEX incarnations_namespace_id_created_at_id_idx
    ON incarnations (namespace_id, created_at, id);

CREATE TABLE workgroups (
    id uuid NOT NULL,
    account text NOT NULL,
    region text NOT NULL,
    name text NOT NULL,
    namespace_id uuid NOT NULL,
    namespace_name text NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    base_capacity bigint NOT NULL,
    max_capacity bigint,
    config_parameters jsonb NOT NULL,
    enhanced_vpc_routing boolean NOT NULL,
    extra_compute boolean NOT NULL,
    ip_address_type text NOT NULL,
    price_performance_status text,
    price_performance_level bigint,
    publicly_accessible boolean NOT NULL,
    security_group_ids jsonb NOT NULL,
    subnet_ids jsonb NOT NULL,
    track_name text NOT NULL,
    requested_port bigint NOT NULL,
    port bigint,
    server_version text,
    operation_id uuid,
    CONSTRAINT workgroups_pkey PRIMARY KEY (id),
    CONSTRAINT workgroups_account_region_name_key UNIQUE (account, region, name),
    CONSTRAINT workgroups_namespace_id_key UNIQUE (namespace_id),
    CONSTRAINT workgroups_namespace_id_fkey
        FOREIGN KEY (namespace_id)
        REFERENCES namespaces (id)
        DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT workgroups_status_check
        CHECK (status IN ('AVAILABLE', 'CREATING', 'DELETING', 'MODIFYING')),
    CONSTRAINT workgroups_port_check CHECK (port BETWEEN 1 AND 65535),
    CONSTRAINT workgroups_requested_port_check CHECK (requested_port BETWEEN 1 AND 65535)
);
CREATE INDEX workgroups_account_region_created_at_id_idx
    ON workgroups (account, region, created_at, id);

CREATE TABLE snapshots (
    id uuid NOT NULL,
    account text NOT NULL,
    region text NOT NULL,
    name text NOT NULL,
    namespace_id uuid NOT NULL,
    namespace_name text NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    retention_days bigint NOT NULL,
    retention_started_at timestamptz,
    admin_username text NOT NULL,
    db_name text NOT NULL,
    kms_key_id text NOT NULL,
    admin_secret_arn text,
    admin_secret_kms_key_id text,
    publicly_accessible boolean NOT NULL,
    phase text NOT NULL,
    done_bytes bigint NOT NULL,
    total_bytes bigint,
    bytes_per_second double precision NOT NULL,
    elapsed_seconds double precision NOT NULL,
    stored_bytes bigint,
    logical_bytes bigint,
    damage text,
    failure text,
    CONSTRAINT snapshots_pkey PRIMARY KEY (id),
    CONSTRAINT snapshots_account_region_name_key UNIQUE (account, region, name),
    CONSTRAINT snapshots_status_check
        CHECK (status IN ('AVAILABLE', 'CANCELLED', 'COPYING', 'CREATING', 'DELETED', 'FAILED')),
    CONSTRAINT snapshots_retention_days_check
        CHECK (retention_days = -1 OR retention_days BETWEEN 1 AND 3653),
    CONSTRAINT snapshots_progress_check CHECK (done_bytes >= 0 AND total_bytes >= 0),
    CONSTRAINT snapshots_sizes_check CHECK (stored_bytes >= 0 AND logical_bytes >= 0)
);
CREATE INDEX snapshots_account_region_created_at_id_idx
    ON snapshots (account, region, created_at, id);
CREATE INDEX snapshots_expiry_idx ON snapshots (retention_started_at) WHERE retention_days > 0;
CREATE INDEX snapshots_namespace_id_created_at_id_idx ON snapshots (namespace_id, created_at, id);

CREATE TABLE operations (
    id uuid NOT NULL,
    account text NOT NULL,
    region text NOT NULL,
    kind text NOT NULL,
    status text NOT NULL,
    namespace_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    arguments jsonb NOT NULL,
    request_id text NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    attempts bigint NOT NULL,
    cancel_requested boolean NOT NULL,
    phase text NOT NULL,
    done_bytes bigint NOT NULL,
    total_bytes bigint,
    failure_kind text,
    failure text,
    hint text,
    CONSTRAINT operations_pkey PRIMARY KEY (id),
    CONSTRAINT operations_kind_check
        CHECK (kind IN ('create_snapshot', 'create_workgroup', 'delete_namespace',
            'delete_workgroup', 'restore_from_snapshot', 'restore_table_from_snapshot',
            'start_server', 'update_namespace', 'update_workgroup')),
    CONSTRAINT operations_status_check
        CHECK (status IN ('cancelled', 'failed', 'queued', 'running', 'succeeded')),
    CONSTRAINT operations_finished_at_check
        CHECK ((finished_at IS NOT NULL) = (status IN ('cancelled', 'failed', 'succeeded'))),
    CONSTRAINT operations_progress_check CHECK (done_bytes >= 0 AND total_bytes >= 0)
);
CREATE INDEX operations_account_region_created_at_id_idx
    ON operations (account, region, created_at, id);
CREATE INDEX operations_namespace_id_created_at_id_idx ON operations (namespace_id, created_at, id);
CREATE INDEX operations_subject_id_created_at_idx ON operations (subject_id, created_at);
CREATE INDEX operations_unfinished_idx
    ON operations (namespace_id) WHERE status NOT IN ('cancelled', 'failed', 'succeeded');

CREATE TABLE table_restores (
    id uuid NOT NULL,
    account text NOT NULL,
    region text NOT NULL,
    namespace_id uuid NOT NULL,
    namespace_name text NOT NULL,
    workgroup_name text NOT NULL,
    snapshot_id uuid NOT NULL,
    snapshot_name text NOT NULL,
    source_database text NOT NULL,
    source_schema text NOT NULL,
    source_table text NOT NULL,
    target_database text NOT NULL,
    target_schema text NOT NULL,
    new_table text NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    done_bytes bigint NOT NULL,
    total_bytes bigint,
    message text,
    target_transaction bigint,
    CONSTRAINT table_restores_pkey PRIMARY KEY (id),
    CONSTRAINT table_restores_status_check
        CHECK (status IN ('CANCELED', 'FAILED', 'IN_PROGRESS', 'PENDING', 'SUCCEEDED')),
    CONSTRAINT table_restores_progress_check CHECK (done_bytes >= 0 AND total_bytes >= 0)
);
CREATE INDEX table_restores_account_region_created_at_id_idx
    ON table_restores (account, region, created_at, id);

CREATE TABLE access_keys (
    access_key_id text NOT NULL,
    account text NOT NULL,
    user_name text NOT NULL,
    sealed_secret bytea NOT NULL,
    created_at timestamptz NOT NULL,
    is_root boolean NOT NULL,
    CONSTRAINT access_keys_pkey PRIMARY KEY (access_key_id)
);
CREATE INDEX access_keys_account_created_at_access_key_id_idx
    ON access_keys (account, created_at, access_key_id);

CREATE TABLE database_users (
    namespace_id uuid NOT NULL,
    role text NOT NULL,
    sealed_password bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    next_refresh_at timestamptz NOT NULL,
    CONSTRAINT database_users_pkey PRIMARY KEY (namespace_id, role),
    CONSTRAINT database_users_namespace_id_fkey
        FOREIGN KEY (namespace_id)
        REFERENCES namespaces (id) ON DELETE CASCADE
        DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX database_users_expires_at_idx ON database_users (expires_at);

CREATE TABLE managed_secrets (
    id uuid NOT NULL,
    account text NOT NULL,
    region text NOT NULL,
    namespace_id uuid NOT NULL,
    username text NOT NULL,
    sealed_password bytea NOT NULL,
    kms_key_id text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT managed_secrets_pkey PRIMARY KEY (id),
    CONSTRAINT managed_secrets_namespace_id_fkey
        FOREIGN KEY (namespace_id)
        REFERENCES namespaces (id) ON DELETE CASCADE
        DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX managed_secrets_namespace_id_idx ON managed_secrets (namespace_id);

CREATE TABLE tags (
    resource_arn text NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    CONSTRAINT tags_pkey PRIMARY KEY (resource_arn, key)
);

CREATE TABLE resource_policies (
    resource_arn text NOT NULL,
    account text NOT NULL,
    region text NOT NULL,
    policy text NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT resource_policies_pkey PRIMARY KEY (resource_arn)
);

CREATE TABLE timelines (
    system_identifier numeric(20, 0) NOT NULL,
    timeline bigint NOT NULL,
    CONSTRAINT timelines_pkey PRIMARY KEY (system_identifier, timeline),
    CONSTRAINT timelines_timeline_check CHECK (timeline BETWEEN 1 AND 4294967295)
);

CREATE TABLE job_schema (
    version text NOT NULL,
    CONSTRAINT job_schema_pkey PRIMARY KEY (version)
);

ALTER TABLE namespaces
    ADD CONSTRAINT namespaces_incarnation_id_id_fkey
    FOREIGN KEY (incarnation_id, id)
    REFERENCES incarnations (id, namespace_id)
    DEFERRABLE INITIALLY DEFERRED;
"""


def upgrade() -> None:
    """Create everything."""
    connection = op.get_bind()
    run_script(connection, CREATE)
    job_schema.create(connection)
