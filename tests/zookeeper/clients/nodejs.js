// node-zookeeper-client, as a Node.js service uses it. Arguments: the servers, the package's directory.
'use strict';

const assert = require('assert');
const [servers, modules] = process.argv.slice(2);
const zookeeper = require(modules + '/node-zookeeper-client');
const { CreateMode, Exception, Event, ACL, Permission, Id } = zookeeper;

const options = { sessionTimeout: 10000, spinDelay: 50, retries: 3 };
const later = setTimeout(() => { console.error('no end within 60 s'); process.exit(1); }, 60000);
let checks = 0;

function check(real, expected, what) {
  assert.deepStrictEqual(real, expected, what);
  checks += 1;
}

function connected(chroot) {
  const client = zookeeper.createClient(servers + (chroot || ''), options);
  const ready = new Promise((resolve) => client.once('connected', () => resolve(client)));
  client.connect();
  return ready;
}

// The result of a call with a callback; of several results, all.
function call(client, method, ...args) {
  return new Promise((resolve, reject) => {
    client[method](...args, (error, ...results) => error ? reject(error) : resolve(results));
  });
}

async function fails(promise, code) {
  try {
    await promise;
  } catch (error) {
    check(error.getCode(), Exception[code], code);
    return;
  }
  assert.fail('expected ' + code);
}

function watcher() {
  let tell;
  const event = new Promise((resolve) => { tell = resolve; });
  return { event, on: (seen) => tell([seen.getType(), seen.getPath()]) };
}

async function operations(client, other) {
  check((await call(client, 'create', '/n', Buffer.from('one')))[0], '/n');
  await fails(call(client, 'create', '/n'), 'NODE_EXISTS');
  await fails(call(client, 'create', '/missing/child'), 'NO_NODE');
  let [data, stat] = await call(client, 'getData', '/n');
  check([data.toString(), stat.version, stat.numChildren], ['one', 0, 0]);
  [stat] = await call(client, 'setData', '/n', Buffer.from('two'));
  check(stat.version, 1);
  await fails(call(client, 'setData', '/n', Buffer.from('x'), 7), 'BAD_VERSION');
  check((await call(client, 'exists', '/nothing'))[0], null);
  const [path] = await call(client, 'create', '/n/s-', null, ACL.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL);
  check(path, '/n/s-0000000000');
  await fails(call(client, 'create', path + '/child'), 'NO_CHILDREN_FOR_EPHEMERALS');
  await fails(call(client, 'remove', '/n'), 'NOT_EMPTY');
  check((await call(other, 'getChildren', '/n'))[0], ['s-0000000000']);
  check((await call(client, 'mkdirp', '/deep/er/est'))[0], '/deep/er/est');
  // Two levels: with more, this package forgets some.
  check((await call(client, 'listSubTreeBFS', '/deep/er'))[0], ['/deep/er', '/deep/er/est']);
  await call(client, 'removeRecursive', '/deep/er');
  await call(client, 'removeRecursive', '/deep');
  check((await call(client, 'exists', '/deep'))[0], null);
}

async function watches(client, other) {
  const [created, changed, child, removed] = [watcher(), watcher(), watcher(), watcher()];
  await call(client, 'exists', '/w', created.on);
  await call(other, 'create', '/w', Buffer.from('0'));
  check(await created.event, [Event.NODE_CREATED, '/w']);
  await call(client, 'getData', '/w', changed.on);
  await call(client, 'getChildren', '/w', child.on);
  await call(other, 'setData', '/w', Buffer.from('1'));
  check(await changed.event, [Event.NODE_DATA_CHANGED, '/w']);
  await call(other, 'create', '/w/c');
  check(await child.event, [Event.NODE_CHILDREN_CHANGED, '/w']);
  await call(other, 'remove', '/w/c');
  await call(client, 'exists', '/w', removed.on);
  await call(other, 'remove', '/w');
  check(await removed.event, [Event.NODE_DELETED, '/w']);
}

async function acls(client, other) {
  client.addAuthInfo('digest', Buffer.from('user:secret'));
  const mine = [new ACL(Permission.ALL, new Id('auth', ''))];
  await call(client, 'create', '/mine', Buffer.from('v'), mine, CreateMode.PERSISTENT);
  const [given, stat] = await call(client, 'getACL', '/mine');
  check([given.length, given[0].id.scheme, stat.aversion], [1, 'digest', 0]);
  await fails(call(other, 'getData', '/mine'), 'NO_AUTH');
  await call(client, 'setACL', '/mine', ACL.OPEN_ACL_UNSAFE);
  check((await call(other, 'getData', '/mine'))[0].toString(), 'v');
  await fails(call(client, 'create', '/bad', null, [new ACL(31, new Id('nonsense', 'x'))], 0), 'INVALID_ACL');
}

async function transactions(client) {
  const commit = (transaction) => new Promise((resolve, reject) => {
    transaction.commit((error, results) => error ? reject(error) : resolve(results));
  });
  await call(client, 'create', '/t', Buffer.from('0'));
  const results = await commit(client.transaction()
    .check('/t', 0).create('/t/a', Buffer.from('a')).setData('/t', Buffer.from('1'), 0).remove('/t/a', 0));
  check(results.length, 4);
  await fails(commit(client.transaction().remove('/t').check('/t/none', 3)), 'NO_NODE');
  check((await call(client, 'getData', '/t'))[0].toString(), '1');
}

async function sessions(other) {
  const client = await connected();
  check(client.getSessionTimeout(), 10000);
  await call(client, 'create', '/eph', null, ACL.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
  const gone = watcher();
  await call(other, 'exists', '/eph', gone.on);
  client.close();
  check(await gone.event, [Event.NODE_DELETED, '/eph']);
  await call(other, 'create', '/inner');
  const inner = await connected('/inner');
  await call(inner, 'create', '/key');
  check((await call(other, 'getChildren', '/inner'))[0], ['key']);
  inner.close();
}

(async () => {
  const [client, other] = [await connected(), await connected()];
  await operations(client, other);
  await watches(client, other);
  await acls(client, other);
  await transactions(client);
  await sessions(other);
  client.close();
  other.close();
  clearTimeout(later);
  console.log(checks + ' checks');
  process.exit(0);
})().catch((error) => { console.error(error.stack || String(error)); process.exit(1); });
