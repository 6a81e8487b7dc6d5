import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedValue;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryForever;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.data.Stat;

/** Curator's recipes, as their users use them. Argument: the servers. Prints what passed; ends with 1 on failure. */
public final class Curator {
    private static final long PATIENCE = 30;
    private static CuratorFramework one;
    private static CuratorFramework two;

    private interface Part {
        void run() throws Exception;
    }

    private interface Fact {
        boolean holds() throws Exception;
    }

    public static void main(String[] arguments) {
        try {
            one = client(arguments[0]);
            two = client(arguments[0]);
            part("operations", Curator::operations);
            part("transactions", Curator::transactions);
            part("persistent watcher", Curator::persistentWatcher);
            part("mutex", Curator::mutex);
            part("semaphore mutex and multi lock", Curator::otherLocks);
            part("read-write lock", Curator::readWriteLock);
            part("semaphore", Curator::semaphore);
            part("leader latch", Curator::leaderLatch);
            part("leader selector", Curator::leaderSelector);
            part("barriers", Curator::barriers);
            part("shared count and value", Curator::shared);
            part("atomic long", Curator::atomicLong);
            part("persistent node and TTL node", Curator::persistentNode);
            part("group member", Curator::groupMember);
            part("path, node, tree and Curator caches", Curator::caches);
            part("queues", Curator::queues);
            part("discovery", Curator::discovery);
            part("a lost session", () -> lostSession(arguments[0]));
            one.close();
            two.close();
            System.exit(0);
        } catch (Throwable failure) {
            failure.printStackTrace();
            System.exit(1);
        }
    }

    private static void part(String name, Part part) throws Exception {
        long began = System.nanoTime();
        try {
            part.run();
        } catch (Throwable failure) {
            System.out.println("FAILED: " + name);
            throw failure;
        }
        System.out.printf("passed: %s (%d ms)%n", name, (System.nanoTime() - began) / 1_000_000);
    }

    private static CuratorFramework client(String servers) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
                .connectString(servers)
                .sessionTimeoutMs(10_000)
                .connectionTimeoutMs(10_000)
                .retryPolicy(new RetryNTimes(10, 100))
                .namespace("curator")
                .build();
        client.start();
        check(client.blockUntilConnected((int) PATIENCE, TimeUnit.SECONDS), "connected");
        return client;
    }

    private static void check(boolean fact, String what) {
        if (!fact) {
            throw new AssertionError("not so: " + what);
        }
    }

    private static void same(Object real, Object expected, String what) {
        check(expected.equals(real), what + " is " + real + " instead of " + expected);
    }

    private static void eventually(Fact fact, String what) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE);
        while (!fact.holds()) {
            check(System.nanoTime() < deadline, what + ", in time");
            Thread.sleep(10);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    private static CompletableFuture<Void> background(Part part) {
        return CompletableFuture.runAsync(() -> {
            try {
                part.run();
            } catch (Exception failure) {
                throw new RuntimeException(failure);
            }
        });
    }

    private static void done(CompletableFuture<Void> work) throws Exception {
        work.get(PATIENCE, TimeUnit.SECONDS);
    }

    private static void operations() throws Exception {
        Stat stat = new Stat();
        // Curator makes the namespace's own key a container: it must not be empty when nothing is in it for a while.
        one.create().creatingParentsIfNeeded().forPath("/keeps-the-namespace");
        one.create().storingStatIn(stat).creatingParentContainersIfNeeded().forPath("/o/a", bytes("0"));
        same(stat.getVersion(), 0, "version");
        same(text(two.getData().forPath("/o/a")), "0", "data");
        same(one.setData().withVersion(0).forPath("/o/a", bytes("1")).getVersion(), 1, "version");
        try {
            one.setData().withVersion(0).forPath("/o/a", bytes("2"));
            check(false, "an old version is refused");
        } catch (KeeperException.BadVersionException expected) {
            // so it must be
        }
        String path = one.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/o/p-");
        check(path.startsWith("/o/_c_") && path.endsWith("0000000001"), path);
        same(one.getChildren().forPath("/o").size(), 2, "children");
        one.create().orSetData().forPath("/o/a", bytes("3"));
        same(text(two.getData().forPath("/o/a")), "3", "data");
        one.create().withTtl(3_600_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/o/ttl");
        one.setACL().withACL(ZooDefs.Ids.READ_ACL_UNSAFE).forPath("/o/a");
        same(one.getACL().forPath("/o/a"), ZooDefs.Ids.READ_ACL_UNSAFE, "ACL");
        two.sync().forPath("/o");
        one.delete().guaranteed().deletingChildrenIfNeeded().forPath("/o");
        check(two.checkExists().forPath("/o") == null, "the tree is gone");
    }

    private static void transactions() throws Exception {
        Collection<CuratorTransactionResult> results = one.transaction().forOperations(
                one.transactionOp().create().forPath("/t", bytes("0")),
                one.transactionOp().check().withVersion(0).forPath("/t"),
                one.transactionOp().setData().forPath("/t", bytes("1")),
                one.transactionOp().create().forPath("/t/child"));
        same(results.size(), 4, "results");
        try {
            one.transaction().forOperations(
                    one.transactionOp().delete().forPath("/t/child"), one.transactionOp().check().forPath("/none"));
            check(false, "a transaction fails as a whole");
        } catch (KeeperException.NoNodeException expected) {
            check(two.checkExists().forPath("/t/child") != null, "nothing of it happened");
        }
    }

    private static void persistentWatcher() throws Exception {
        BlockingQueue<WatchedEvent> events = new LinkedBlockingQueue<>();
        try (PersistentWatcher watcher = new PersistentWatcher(one, "/watched", true)) {
            watcher.getListenable().addListener(events::add);
            watcher.start();
            eventually(() -> {
                two.create().orSetData().forPath("/watched", bytes("x"));
                return !events.isEmpty();
            }, "the first event");
            events.clear();
            two.create().forPath("/watched/child");
            two.setData().forPath("/watched/child", bytes("y"));
            two.delete().forPath("/watched/child");
            List<String> kinds = new ArrayList<>();
            while (kinds.size() < 3) {
                WatchedEvent event = events.poll(PATIENCE, TimeUnit.SECONDS);
                check(event != null, "an event comes");
                if (event.getPath().equals("/watched/child")) {
                    kinds.add(event.getType().toString());
                }
            }
            same(kinds, Arrays.asList("NodeCreated", "NodeDataChanged", "NodeDeleted"), "events");
        }
    }

    private static void mutex() throws Exception {
        InterProcessMutex first = new InterProcessMutex(one, "/mutex");
        InterProcessMutex second = new InterProcessMutex(two, "/mutex");
        first.acquire();
        check(first.acquire(1, TimeUnit.SECONDS), "it is reentrant");
        first.release();
        check(!second.acquire(50, TimeUnit.MILLISECONDS), "one holds it");
        CompletableFuture<Void> waiting = background(() -> {
            second.acquire();
            second.release();
        });
        eventually(() -> first.getParticipantNodes().size() == 2, "the second waits");
        check(!waiting.isDone(), "the second waits");
        first.release();
        done(waiting);
        AtomicInteger inside = new AtomicInteger();
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (CuratorFramework client : Arrays.asList(one, two, one, two)) {
            InterProcessMutex mutex = new InterProcessMutex(client, "/mutex");
            all.add(background(() -> {
                for (int turn = 0; turn < 5; turn++) {
                    mutex.acquire();
                    check(inside.incrementAndGet() == 1, "one at a time");
                    inside.decrementAndGet();
                    mutex.release();
                }
            }));
        }
        for (CompletableFuture<Void> each : all) {
            done(each);
        }
    }

    private static void otherLocks() throws Exception {
        InterProcessSemaphoreMutex first = new InterProcessSemaphoreMutex(one, "/smutex");
        InterProcessSemaphoreMutex second = new InterProcessSemaphoreMutex(two, "/smutex");
        first.acquire();
        check(!second.acquire(50, TimeUnit.MILLISECONDS), "one holds it");
        first.release();
        check(second.acquire(PATIENCE, TimeUnit.SECONDS), "the other gets it");
        second.release();
        InterProcessMultiLock both = new InterProcessMultiLock(one, Arrays.asList("/multi/a", "/multi/b"));
        InterProcessMutex half = new InterProcessMutex(two, "/multi/b");
        both.acquire();
        check(!half.acquire(50, TimeUnit.MILLISECONDS), "both are held");
        both.release();
        check(half.acquire(PATIENCE, TimeUnit.SECONDS), "both are free");
        check(!both.acquire(50, TimeUnit.MILLISECONDS), "all or none");
        half.release();
    }

    private static void readWriteLock() throws Exception {
        InterProcessReadWriteLock first = new InterProcessReadWriteLock(one, "/rw");
        InterProcessReadWriteLock second = new InterProcessReadWriteLock(two, "/rw");
        first.readLock().acquire();
        check(second.readLock().acquire(PATIENCE, TimeUnit.SECONDS), "readers share");
        check(!second.writeLock().acquire(50, TimeUnit.MILLISECONDS), "a writer waits");
        first.readLock().release();
        second.readLock().release();
        check(second.writeLock().acquire(PATIENCE, TimeUnit.SECONDS), "the writer is alone");
        check(!first.readLock().acquire(50, TimeUnit.MILLISECONDS), "a reader waits");
        second.readLock().acquire();
        second.writeLock().release();
        check(first.readLock().acquire(PATIENCE, TimeUnit.SECONDS), "the writer became a reader");
        first.readLock().release();
        second.readLock().release();
    }

    private static void semaphore() throws Exception {
        InterProcessSemaphoreV2 first = new InterProcessSemaphoreV2(one, "/semaphore", 3);
        InterProcessSemaphoreV2 second = new InterProcessSemaphoreV2(two, "/semaphore", 3);
        Collection<Lease> leases = first.acquire(2);
        Lease third = second.acquire(PATIENCE, TimeUnit.SECONDS);
        check(third != null, "the third is there");
        check(second.acquire(50, TimeUnit.MILLISECONDS) == null, "there is no fourth");
        first.returnAll(leases);
        leases = second.acquire(2, PATIENCE, TimeUnit.SECONDS);
        same(leases.size(), 2, "leases");
        second.returnAll(leases);
        second.returnLease(third);
    }

    private static void leaderLatch() throws Exception {
        LeaderLatch first = new LeaderLatch(one, "/latch", "first");
        LeaderLatch second = new LeaderLatch(two, "/latch", "second");
        first.start();
        check(first.await(PATIENCE, TimeUnit.SECONDS), "the first leads");
        second.start();
        eventually(() -> second.getParticipants().size() == 2, "both take part");
        same(second.getLeader().getId(), "first", "leader");
        check(!second.hasLeadership(), "one leads");
        first.close();
        check(second.await(PATIENCE, TimeUnit.SECONDS), "the second leads");
        second.close();
    }

    private static void leaderSelector() throws Exception {
        BlockingQueue<String> leaders = new LinkedBlockingQueue<>();
        List<LeaderSelector> selectors = new ArrayList<>();
        for (CuratorFramework client : Arrays.asList(one, two)) {
            LeaderSelector selector = new LeaderSelector(client, "/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework leader) {
                    leaders.add(leader == one ? "one" : "two");
                }
            });
            selector.autoRequeue();
            selector.start();
            selectors.add(selector);
        }
        Set<String> seen = new TreeSet<>();
        while (seen.size() < 2) {
            String leader = leaders.poll(PATIENCE, TimeUnit.SECONDS);
            check(leader != null, "somebody leads");
            seen.add(leader);
        }
        for (LeaderSelector selector : selectors) {
            selector.close();
        }
    }

    private static void barriers() throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(one, "/barrier");
        barrier.setBarrier();
        check(!new DistributedBarrier(two, "/barrier").waitOnBarrier(50, TimeUnit.MILLISECONDS), "it holds");
        CompletableFuture<Void> waiting = background(() -> new DistributedBarrier(two, "/barrier").waitOnBarrier());
        barrier.removeBarrier();
        done(waiting);
        CountDownLatch left = new CountDownLatch(2);
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (CuratorFramework client : Arrays.asList(one, two)) {
            DistributedDoubleBarrier each = new DistributedDoubleBarrier(client, "/double", 2);
            all.add(background(() -> {
                check(each.enter(PATIENCE, TimeUnit.SECONDS), "entered");
                check(each.leave(PATIENCE, TimeUnit.SECONDS), "left");
                left.countDown();
            }));
        }
        for (CompletableFuture<Void> each : all) {
            done(each);
        }
        same(left.getCount(), 0L, "those inside");
    }

    private static void shared() throws Exception {
        try (SharedCount first = new SharedCount(one, "/count", 7);
                SharedCount second = new SharedCount(two, "/count", 7);
                SharedValue value = new SharedValue(one, "/value", bytes("seed"))) {
            first.start();
            second.start();
            value.start();
            same(second.getCount(), 7, "seed");
            first.setCount(10);
            eventually(() -> second.getCount() == 10, "the other sees the change");
            check(second.trySetCount(second.getVersionedValue(), 11), "the version is right");
            eventually(() -> first.getCount() == 11, "the first sees the change");
            same(text(value.getValue()), "seed", "value");
            check(value.trySetValue(value.getVersionedValue(), bytes("new")), "the version is right");
        }
    }

    private static void atomicLong() throws Exception {
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (CuratorFramework client : Arrays.asList(one, two)) {
            DistributedAtomicLong number = new DistributedAtomicLong(client, "/long", new RetryForever(1));
            all.add(background(() -> {
                for (int turn = 0; turn < 20; turn++) {
                    check(number.increment().succeeded(), "incremented");
                }
            }));
        }
        for (CompletableFuture<Void> each : all) {
            done(each);
        }
        DistributedAtomicLong number = new DistributedAtomicLong(one, "/long", new RetryForever(1));
        same(number.get().postValue(), 40L, "the sum");
        check(number.compareAndSet(40L, 1L).succeeded(), "compared and set");
        check(!number.compareAndSet(40L, 2L).succeeded(), "compared and not set");
    }

    private static void persistentNode() throws Exception {
        try (PersistentNode node = new PersistentNode(one, CreateMode.EPHEMERAL, false, "/node", bytes("v"))) {
            node.start();
            check(node.waitForInitialCreate(PATIENCE, TimeUnit.SECONDS), "it is there");
            long created = two.checkExists().forPath("/node").getCzxid();
            two.delete().forPath("/node");
            eventually(() -> {
                Stat stat = two.checkExists().forPath("/node");
                return stat != null && stat.getCzxid() > created;
            }, "it comes back");
            node.setData(bytes("w"));
            eventually(() -> text(two.getData().forPath("/node")).equals("w"), "its data changed");
        }
        eventually(() -> two.checkExists().forPath("/node") == null, "it is gone");
        try (PersistentTtlNode node = new PersistentTtlNode(one, "/ttlnode", 5_000, bytes("v"))) {
            node.start();
            check(node.waitForInitialCreate(PATIENCE, TimeUnit.SECONDS), "it is there");
            check(two.checkExists().forPath("/ttlnode") != null, "it is there");
        }
    }

    private static void groupMember() throws Exception {
        GroupMember first = new GroupMember(one, "/group", "first", bytes("1"));
        GroupMember second = new GroupMember(two, "/group", "second", bytes("2"));
        first.start();
        second.start();
        eventually(() -> first.getCurrentMembers().size() == 2, "both are members");
        same(text(first.getCurrentMembers().get("second")), "2", "what the second says");
        second.close();
        eventually(() -> first.getCurrentMembers().keySet().equals(Collections.singleton("first")), "one is left");
        first.close();
    }

    private static void caches() throws Exception {
        two.create().creatingParentsIfNeeded().forPath("/cache/old", bytes("old"));
        try (PathChildrenCache path = new PathChildrenCache(one, "/cache", true);
                NodeCache node = new NodeCache(one, "/cache/old");
                TreeCache tree = new TreeCache(one, "/cache")) {
            path.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
            node.start(true);
            tree.start();
            same(path.getCurrentData().size(), 1, "children");
            same(text(node.getCurrentData().getData()), "old", "data");
            two.setData().forPath("/cache/old", bytes("changed"));
            two.create().creatingParentsIfNeeded().forPath("/cache/new/leaf", bytes("leaf"));
            eventually(() -> text(node.getCurrentData().getData()).equals("changed"), "the node cache sees it");
            eventually(() -> path.getCurrentData().size() == 2, "the path cache sees it");
            eventually(() -> tree.getCurrentData("/cache/new/leaf") != null, "the tree cache sees it");
            eventually(() -> text(tree.getCurrentData("/cache/old").getData()).equals("changed"), "tree: changed");
            two.delete().deletingChildrenIfNeeded().forPath("/cache/new");
            eventually(() -> path.getCurrentData().size() == 1, "the path cache forgets it");
            eventually(() -> tree.getCurrentData("/cache/new") == null, "the tree cache forgets it");
        }
        // On its own: ZooKeeper 3.8 mixes up a persistent watch and others of the same session on one path.
        try (CuratorCache cache = CuratorCache.build(one, "/cache")) {
            cache.start();
            eventually(() -> cache.get("/cache/old").isPresent(), "it knows what was there");
            two.create().creatingParentsIfNeeded().forPath("/cache/new/leaf", bytes("leaf"));
            two.setData().forPath("/cache/old", bytes("again"));
            eventually(() -> cache.get("/cache/new/leaf").isPresent(), "it knows what came");
            eventually(() -> text(cache.get("/cache/old").get().getData()).equals("again"), "it knows what changed");
            two.delete().deletingChildrenIfNeeded().forPath("/cache/new");
            eventually(() -> !cache.get("/cache/new").isPresent(), "it knows what went");
        }
    }

    private static final class Texts implements QueueSerializer<String>, QueueConsumer<String> {
        private final BlockingQueue<String> taken = new LinkedBlockingQueue<>();

        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] item) {
            return text(item);
        }

        @Override
        public void consumeMessage(String message) {
            taken.add(message);
        }

        @Override
        public void stateChanged(CuratorFramework client, ConnectionState state) {}

        private List<String> take(int count) throws Exception {
            List<String> messages = new ArrayList<>();
            while (messages.size() < count) {
                String message = taken.poll(PATIENCE, TimeUnit.SECONDS);
                check(message != null, "a message comes");
                messages.add(message);
            }
            return messages;
        }
    }

    private static void queues() throws Exception {
        Texts texts = new Texts();
        try (DistributedQueue<String> producer = QueueBuilder.<String>builder(one, null, texts, "/queue").buildQueue();
                DistributedQueue<String> consumer =
                        QueueBuilder.builder(two, texts, texts, "/queue").lockPath("/queue-lock").buildQueue()) {
            producer.start();
            consumer.start();
            for (String message : Arrays.asList("a", "b", "c")) {
                producer.put(message);
            }
            same(texts.take(3), Arrays.asList("a", "b", "c"), "messages");
        }
        try (DistributedPriorityQueue<String> producer =
                QueueBuilder.<String>builder(one, null, texts, "/priority").buildPriorityQueue(0)) {
            producer.start();
            producer.put("late", 9);
            producer.put("early", 1);
            check(producer.flushPuts(PATIENCE, TimeUnit.SECONDS), "they are there");
            try (DistributedPriorityQueue<String> consumer =
                    QueueBuilder.builder(two, texts, texts, "/priority").buildPriorityQueue(0)) {
                consumer.start();
                same(texts.take(2), Arrays.asList("early", "late"), "messages");
            }
        }
        SimpleDistributedQueue simple = new SimpleDistributedQueue(one, "/simple");
        check(simple.offer(bytes("x")) && simple.offer(bytes("y")), "offered");
        same(text(new SimpleDistributedQueue(two, "/simple").take()), "x", "taken");
        same(text(simple.poll(PATIENCE, TimeUnit.SECONDS)), "y", "polled");
    }

    private static void discovery() throws Exception {
        ServiceInstance<String> instance =
                ServiceInstance.<String>builder().name("web").address("10.0.0.1").port(80).payload("blue").build();
        try (ServiceDiscovery<String> offers = ServiceDiscoveryBuilder.builder(String.class)
                        .client(one).basePath("/discovery").thisInstance(instance).build();
                ServiceDiscovery<String> looks = ServiceDiscoveryBuilder.builder(String.class)
                        .client(two).basePath("/discovery").build()) {
            offers.start();
            looks.start();
            same(new ArrayList<>(looks.queryForNames()), Collections.singletonList("web"), "names");
            ServiceInstance<String> found = looks.queryForInstance("web", instance.getId());
            same(found.getPayload(), "blue", "payload");
            try (ServiceCache<String> cache = looks.serviceCacheBuilder().name("web").build();
                    ServiceProvider<String> provider = looks.serviceProviderBuilder().serviceName("web").build()) {
                cache.start();
                provider.start();
                same(cache.getInstances().size(), 1, "instances");
                same(provider.getInstance().getPort(), 80, "port");
                offers.unregisterService(instance);
                eventually(() -> cache.getInstances().isEmpty(), "the service is gone");
            }
        }
    }

    /** Its session is ended behind its back: Curator opens a new one, and its recipes recover. */
    private static void lostSession(String servers) throws Exception {
        try (CuratorFramework client = client(servers)) {
            CountDownLatch lost = new CountDownLatch(1);
            CountDownLatch again = new CountDownLatch(1);
            client.getConnectionStateListenable().addListener((ignored, state) -> {
                if (state == ConnectionState.LOST) {
                    lost.countDown();
                } else if (state == ConnectionState.RECONNECTED) {
                    again.countDown();
                }
            });
            try (PersistentNode node = new PersistentNode(client, CreateMode.EPHEMERAL, false, "/lost", bytes("v"))) {
                node.start();
                check(node.waitForInitialCreate(PATIENCE, TimeUnit.SECONDS), "it is there");
                long owner = one.checkExists().forPath("/lost").getEphemeralOwner();
                long session = client.getZookeeperClient().getZooKeeper().getSessionId();
                same(owner, session, "owner");
                CountDownLatch moved = new CountDownLatch(1);
                org.apache.zookeeper.ZooKeeper twin = new org.apache.zookeeper.ZooKeeper(
                        servers, 10_000, event -> moved.countDown(), session,
                        client.getZookeeperClient().getZooKeeper().getSessionPasswd());
                check(moved.await(PATIENCE, TimeUnit.SECONDS), "the twin is connected");
                twin.close();
                check(lost.await(PATIENCE, TimeUnit.SECONDS), "the session is lost");
                check(again.await(PATIENCE, TimeUnit.SECONDS), "there is another one");
                eventually(() -> {
                    Stat stat = one.checkExists().forPath("/lost");
                    return stat != null && stat.getEphemeralOwner() != session;
                }, "the node is made anew");
            }
        }
    }
}
