"""Open snapshots, proofs and verifications, and the operations that make them."""

from alembic import op

from stillframe.catalog.driver import run_script

revision = "0002"
down_revision = "0001"

CHANGE = """
ALTER TABLE operations DROP CONSTRAINT operations_kind_check;
ALTER TABLE operations ADD CONSTRAINT operations_kind_check
    CHECK (kind IN ('close_snapshot', 'create_snapshot', 'create_workgroup', 'delete_namespace',
        'delete_workgroup', 'open_snapshot', 'prove_snapshot', 'restore_from_snapshot',
        'restore_table_from_snapshot', 'start_server', 'update_namespace', 'update_workgroup'));

CREATE TABLE open_snapshots (
    id uuid NOT NULL,
    account text NOT NULL,
    region text NOT NULL,
    snapshot_id uuid NOT NULL,
    snapshot_name text NOT NULL,
    namespace_id uuid NOT NULL,
    namespace_name text NOT NULL,
    status text NOT NULL,
    temporary boolean NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    username text NOT NULL,
    verifier text NOT NULL,
    sealed_password bytea NOT NULL,
    port bigint,
    message text,
    CONSTRAINT open_snapshots_pkey PRIMARY KEY (id),
    CONSTRAINT open_snapshots_status_check CHECK (status IN ('CLOSING', 'FAILED', 'OPEN', 'OPENING')),
    CONSTRAINT open_snapshots_port_check CHECK (port BETWEEN 1 AND 65535)
);
CREATE INDEX open_snapshots_account_region_created_at_id_idx
    ON open_snapshots (account, region, created_at, id);

CREATE TABLE proofs (
    snapshot_id uuid NOT NULL,
    account text NOT NULL,
    region text NOT NULL,
    result text NOT NULL,
    proved_at timestamptz NOT NULL,
    duration_seconds double precision NOT NULL,
    server_version text NOT NULL,
    findings jsonb NOT NULL,
    remarks jsonb NOT NULL,
    databases jsonb NOT NULL,
    CONSTRAINT proofs_pkey PRIMARY KEY (snapshot_id),
    CONSTRAINT proofs_result_check CHECK (result IN ('failed', 'passed'))
);

CREATE TABLE verifications (
    region text NOT NULL,
    finished_at timestamptz NOT NULL,
    duration_seconds double precision NOT NULL,
    snapshots bigint NOT NULL,
    bytes_read bigint NOT NULL,
    finding_count bigint NOT NULL,
    findings jsonb NOT NULL,
    CONSTRAINT verifications_pkey PRIMARY KEY (region)
);
"""


def upgrade() -> None:
    """Add what is missing."""
    run_script(op.get_bind(), CHANGE)
