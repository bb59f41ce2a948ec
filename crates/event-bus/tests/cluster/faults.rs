//! What the platform was told is stored outlives any one server, and everything goes on by itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_nats::jetstream::kv::Operation;
use futures::StreamExt as _;
use slipway_api::events::{ALIAS_SET, AliasSet, EVENTS_STREAM};
use slipway_api::traffic::TRAFFIC_BUCKET;
use slipway_event_bus::position::From;
use slipway_event_bus::{Consumer, EventBus, NatsConfig, Received, StreamSettings, records};
use slipway_testkit::TestNatsCluster;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Events that every part of a test sees to its end.
const PROGRESS: u32 = 20;

fn alias(version: u32) -> AliasSet {
    AliasSet {
        model: "m".into(),
        alias: "champion".into(),
        version: version.to_string(),
        unchanged: false,
        model_id: String::new(),
    }
}

fn version(event: &Received) -> u32 {
    event.parse::<AliasSet>().unwrap().version.parse().unwrap()
}

async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn connect(url: &str) -> EventBus {
    let config = NatsConfig { nats_url: url.to_owned() };
    let settings = StreamSettings { replicas: 3, ..StreamSettings::default() };
    EventBus::connect(&config, "test").await.unwrap().with_streams(settings)
}

/// One publisher, one consumer and one writer of a bucket, each connected to a server of its own at first.
struct World {
    cluster: TestNatsCluster,
    bus: EventBus,
    acknowledged: Arc<AtomicU32>,
    written: Arc<AtomicU32>,
    /// Deliveries by event.
    handled: Arc<Mutex<BTreeMap<u32, usize>>>,
    /// What each reader of the stream got.
    read: [Arc<Mutex<Vec<u32>>>; 2],
    stop: Arc<AtomicBool>,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl World {
    async fn begin(cluster: TestNatsCluster) -> Self {
        let bus = connect(&cluster.url).await;
        let shutdown = CancellationToken::new();
        assert!(bus.wait_for_resources(&shutdown).await);
        let mut world = Self {
            cluster,
            bus,
            acknowledged: Arc::default(),
            written: Arc::default(),
            handled: Arc::default(),
            read: [Arc::default(), Arc::default()],
            stop: Arc::default(),
            shutdown,
            tasks: Vec::new(),
        };
        world.publish().await;
        world.write().await;
        world.read().await;
        world.consume().await;
        world
    }

    /// Publishes events one after the other as the outbox does: each under its id until it is stored.
    async fn publish(&mut self) {
        let bus = connect(&self.cluster.node_url(0)).await;
        let (acknowledged, stop) = (Arc::clone(&self.acknowledged), Arc::clone(&self.stop));
        self.tasks.push(tokio::spawn(async move {
            for number in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let id = Uuid::now_v7();
                while bus.publish_event("slipway/test", id, &alias(number)).await.is_err() {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                acknowledged.store(number, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }

    /// Writes one key again and again, each value until it is stored.
    async fn write(&mut self) {
        let bus = connect(&self.cluster.node_url(1)).await;
        let (written, stop) = (Arc::clone(&self.written), Arc::clone(&self.stop));
        self.tasks.push(tokio::spawn(async move {
            for number in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                loop {
                    let stored = async {
                        let bucket = bus.bucket(TRAFFIC_BUCKET).await.ok()?;
                        bucket.put("d", number.to_string().into()).await.ok()
                    };
                    if stored.await.is_some() {
                        break;
                    }
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                written.store(number, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }

    /// Reads without a place of its own, as analyses do, and as clients that follow events do.
    async fn read(&self) {
        let (bus, end) = (connect(&self.cluster.node_url(0)).await, self.shutdown.clone());
        let (reading, sink) = (bus.clone(), Arc::clone(&self.read[0]));
        tokio::spawn(async move {
            records::read_from(&reading, EVENTS_STREAM, SystemTime::UNIX_EPOCH, &end, |message| {
                sink.lock().unwrap().push(version(&Received::from_message(message)));
            })
            .await;
        });
        let sink = Arc::clone(&self.read[1]);
        let (from, subjects) = (From::Time(SystemTime::UNIX_EPOCH), vec![ALIAS_SET.to_owned()]);
        tokio::spawn(async move {
            loop {
                // A client that gets an error follows again behind the last event.
                let last = sink.lock().unwrap().len() as u64;
                let from = if last > 0 { From::After(last) } else { from };
                if let Ok((_, mut live)) = bus.follow(EVENTS_STREAM, subjects.clone(), from).await {
                    while let Some(Ok(stored)) = live.next().await {
                        sink.lock().unwrap().push(version(&stored.event));
                    }
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        });
    }

    async fn consume(&mut self) {
        let bus = connect(&self.cluster.node_url(2)).await;
        let consumer = Consumer::new(bus, EVENTS_STREAM, "test", vec![ALIAS_SET.to_owned()]);
        let handled = Arc::clone(&self.handled);
        self.tasks.push(tokio::spawn(consumer.run(self.shutdown.clone(), move |event| {
            *handled.lock().unwrap().entry(version(&event)).or_default() += 1;
            async { Ok(()) }
        })));
    }

    fn consumed(&self) -> u32 {
        self.handled.lock().unwrap().keys().last().copied().unwrap_or(0)
    }

    /// Waits until publisher, writer and consumer have done something that began after now.
    async fn goes_on(&self, during: &str) {
        let published = self.acknowledged.load(Ordering::Relaxed);
        let written = self.written.load(Ordering::Relaxed);
        wait_for(&format!("the publisher, {during}"), || {
            self.acknowledged.load(Ordering::Relaxed) >= published + PROGRESS
        })
        .await;
        wait_for(&format!("the writer, {during}"), || {
            self.written.load(Ordering::Relaxed) >= written + PROGRESS
        })
        .await;
        wait_for(&format!("the consumer, {during}"), || self.consumed() >= published + PROGRESS).await;
        for (number, read) in self.read.iter().enumerate() {
            let last = || read.lock().unwrap().last().copied().unwrap_or(0);
            wait_for(&format!("reader {number}, {during}"), || last() >= published + PROGRESS).await;
        }
    }

    /// Ends publisher and writer, and compares what they were told with what is stored.
    async fn nothing_is_lost(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let consuming = self.tasks.pop();
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
        let last = self.acknowledged.load(Ordering::Relaxed);
        wait_for("the last event", || self.handled.lock().unwrap().len() >= last as usize).await;
        let all: Vec<u32> = (1..=last).collect();
        assert_eq!(self.handled.lock().unwrap().keys().copied().collect::<Vec<_>>(), all, "each is handled");
        for read in &self.read {
            wait_for("the last event at each reader", || read.lock().unwrap().len() >= last as usize).await;
            assert_eq!(*read.lock().unwrap(), all, "each once, in order");
        }
        self.shutdown.cancel();
        consuming.unwrap().await.unwrap();
        let (from, subjects) = (From::Time(SystemTime::UNIX_EPOCH), vec![ALIAS_SET.to_owned()]);
        let page = self.bus.page(EVENTS_STREAM, subjects, from, usize::MAX).await.unwrap();
        let stored: Vec<u32> = page.messages.iter().map(|stored| version(&stored.event)).collect();
        assert_eq!(stored, all, "each is stored once, in its order");
        let bucket = self.bus.bucket(TRAFFIC_BUCKET).await.unwrap();
        let entry = bucket.entry("d").await.unwrap().unwrap();
        assert_eq!(entry.value, self.written.load(Ordering::Relaxed).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_buckets_are_created_on_as_many_servers_as_configured() {
    let cluster = slipway_testkit::nats_cluster().await;
    let bus = connect(&cluster.url).await;
    assert!(bus.wait_for_resources(&CancellationToken::new()).await);
    let traffic = format!("KV_{TRAFFIC_BUCKET}");
    for name in [EVENTS_STREAM, "SLIPWAY_PREDICTIONS", "SLIPWAY_LABELS", &traffic] {
        let stream = bus.jetstream().get_stream(name).await.unwrap();
        let info = stream.cached_info();
        let others = info.cluster.as_ref().unwrap().replicas.len();
        assert_eq!((info.config.num_replicas, others), (3, 2), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_or_is_cut_off_loses_nothing_and_holds_nothing_up() {
    let world = World::begin(slipway_testkit::nats_cluster().await).await;
    world.goes_on("with three servers").await;
    for number in 0..TestNatsCluster::SIZE {
        world.cluster.kill(number).await;
        world.goes_on(&format!("without server {number}")).await;
        world.cluster.start_again(number).await;
        world.goes_on(&format!("with server {number} again")).await;
        // Its clients stay connected to it, and have to find another one.
        world.cluster.cut_off(number);
        world.goes_on(&format!("with server {number} cut off")).await;
        world.cluster.rejoin(number);
        world.goes_on(&format!("with server {number} back")).await;
    }
    world.nothing_is_lost().await;
}

/// A watch of a bucket sees the last value of each key, whatever happens to the server it is connected to.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_when_its_server_dies_or_is_cut_off() {
    let cluster = slipway_testkit::nats_cluster().await;
    let writer = connect(&cluster.url).await;
    assert!(writer.wait_for_resources(&CancellationToken::new()).await);
    let watcher = connect(&cluster.node_url(0)).await;
    wait_for("the connection", || watcher.is_connected()).await;
    let seen = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            // As services do: the watch is started again where it ends, and on another connection.
            let watch = async {
                let bucket = watcher.bucket(TRAFFIC_BUCKET).await.ok()?;
                bucket.watch_with_history(">").await.ok()
            };
            let reconnected = watcher.reconnected();
            tokio::pin!(reconnected);
            if let Some(mut watch) = watch.await {
                loop {
                    let entry = tokio::select! {
                        entry = watch.next() => entry,
                        () = &mut reconnected => break,
                    };
                    let Some(Ok(entry)) = entry else { break };
                    if entry.operation == Operation::Put {
                        *sink.lock().unwrap() = String::from_utf8_lossy(&entry.value).into_owned();
                    }
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    });
    let put = async |value: &str| {
        let started = Instant::now();
        loop {
            let stored = async {
                let bucket = writer.bucket(TRAFFIC_BUCKET).await.ok()?;
                bucket.put("d", value.to_owned().into()).await.ok()
            };
            if stored.await.is_some() {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{value} is not stored");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let is_seen = async |value: &str| wait_for(value, || *seen.lock().unwrap() == value).await;
    put("first").await;
    is_seen("first").await;
    for number in 0..TestNatsCluster::SIZE {
        cluster.cut_off(number);
        let value = format!("cut off {number}");
        put(&value).await;
        is_seen(&value).await;
        cluster.rejoin(number);
        cluster.kill(number).await;
        let value = format!("without {number}");
        put(&value).await;
        is_seen(&value).await;
        cluster.start_again(number).await;
    }
}

/// The leader of a stream cannot write any more: the others go on without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_full_disk_loses_nothing_and_holds_nothing_up() {
    let Some(cluster) = slipway_testkit::nats_cluster_with_small_disks().await else {
        eprintln!("skipped: mounting a small disk requires root");
        return;
    };
    let world = World::begin(cluster).await;
    world.goes_on("with three servers").await;
    for number in 0..TestNatsCluster::SIZE {
        world.cluster.fill_disk(number);
        world.goes_on(&format!("with the disk of server {number} full")).await;
        world.cluster.free_disk(number);
        // A server does not return to JetStream by itself after it met a full disk.
        world.cluster.kill(number).await;
        world.cluster.start_again(number).await;
        world.goes_on(&format!("with server {number} again")).await;
    }
    world.nothing_is_lost().await;
}
