// The main path with the JavaScript SDK: every step is one call, what it answered goes to standard output as JSON.
import {
  CreateNamespaceCommand,
  CreateSnapshotCommand,
  CreateWorkgroupCommand,
  DeleteNamespaceCommand,
  DeleteSnapshotCommand,
  DeleteWorkgroupCommand,
  GetCredentialsCommand,
  GetNamespaceCommand,
  GetSnapshotCommand,
  GetWorkgroupCommand,
  ListTagsForResourceCommand,
  RedshiftServerlessClient,
  ResourceNotFoundException,
  RestoreFromSnapshotCommand,
  paginateListSnapshots,
} from "@aws-sdk/client-redshift-serverless";

const client = new RedshiftServerlessClient({});
const report = {};

async function until(look, isRight) {
  const deadline = Date.now() + 90_000;
  for (;;) {
    const seen = await look();
    if (isRight(seen)) return seen;
    if (Date.now() > deadline) throw new Error(`still ${JSON.stringify(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function settledNamespace() {
  await until(
    async () => (await client.send(new GetNamespaceCommand({ namespaceName: "node" }))).namespace.status,
    (status) => status === "AVAILABLE",
  );
}

async function settled() {
  await until(
    async () => (await client.send(new GetWorkgroupCommand({ workgroupName: "node" }))).workgroup.status,
    (status) => status === "AVAILABLE",
  );
  await settledNamespace();
}

async function gone(command) {
  await until(
    () => client.send(command()).then(() => false, (error) => error instanceof ResourceNotFoundException),
    (isGone) => isGone,
  );
}

const { namespace } = await client.send(
  new CreateNamespaceCommand({ namespaceName: "node", adminUsername: "admin", adminUserPassword: "Snapshot1Time" }),
);
report.createdAt = namespace.creationDate instanceof Date ? namespace.creationDate.toISOString() : null;
await client.send(new CreateWorkgroupCommand({ namespaceName: "node", workgroupName: "node", baseCapacity: 8 }));
await settled();

const { snapshot } = await client.send(
  new CreateSnapshotCommand({
    namespaceName: "node",
    snapshotName: "from-js",
    retentionPeriod: 7,
    tags: [{ key: "via", value: "javascript" }],
  }),
);
report.first = snapshot.status;
const taken = await until(
  async () => (await client.send(new GetSnapshotCommand({ snapshotName: "from-js" }))).snapshot,
  (seen) => seen.status !== "CREATING",
);
report.status = taken.status;
report.retention = taken.snapshotRetentionPeriod;
report.takenAt = taken.snapshotCreateTime instanceof Date;
report.megabytes = taken.totalBackupSizeInMegaBytes;
report.tags = (await client.send(new ListTagsForResourceCommand({ resourceArn: taken.snapshotArn }))).tags;
report.listed = [];
for await (const page of paginateListSnapshots({ client, pageSize: 1 }, { startTime: new Date(0) })) {
  report.listed.push(...page.snapshots.map((item) => item.snapshotName));
}

await settled();
const restore = await client.send(
  new RestoreFromSnapshotCommand({ namespaceName: "node", workgroupName: "node", snapshotName: "from-js" }),
);
report.restoring = restore.namespace.status;
await settled();
const credentials = await client.send(new GetCredentialsCommand({ workgroupName: "node", dbName: "dev" }));
report.user = credentials.dbUser;
report.expires = credentials.expiration instanceof Date && credentials.expiration > new Date();

report.deleted = (await client.send(new DeleteSnapshotCommand({ snapshotName: "from-js" }))).snapshot.status;
try {
  await client.send(new DeleteSnapshotCommand({ snapshotName: "from-js" }));
} catch (error) {
  report.secondDeletion = {
    typed: error instanceof ResourceNotFoundException,
    name: error.name,
    message: error.message,
    resourceName: error.resourceName,
    requestId: Boolean(error.$metadata.requestId),
  };
}
await client.send(new DeleteWorkgroupCommand({ workgroupName: "node" }));
await gone(() => new GetWorkgroupCommand({ workgroupName: "node" }));
await settledNamespace();
await client.send(new DeleteNamespaceCommand({ namespaceName: "node" }));
await gone(() => new GetNamespaceCommand({ namespaceName: "node" }));

process.stdout.write(JSON.stringify(report));
