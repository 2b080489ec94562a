//! The direct engine's queues against scripted devices: turns, credits, quarantine, queues that come and go.

use super::*;

#[test]
fn queue_that_stays_silent_is_stopped_and_comes_back_when_a_probe_is_answered() {
    let device = TestDevice::new(|_, _| Fate::Never);
    let other = TestDevice::new(|_, _| Fate::Done);
    let direct = DirectConfig { quarantine_after: 4, ..DirectConfig::default() };
    let one = QueueInfo { name: "wq0.0".to_owned(), ..QueueInfo::default() };
    let two = QueueInfo { name: "wq1.0".to_owned(), device: 1, ..QueueInfo::default() };
    let channels = channels_of(&[(&device, one), (&other, two)], 4, direct);
    device.set_answers_noops(false);
    let pages = pages(20);
    compress(&channels, &pages);
    let counts = channels.device_counts();
    // The others were in flight by then.
    assert!((4..8).contains(&counts.timed_out) && counts.quarantines == 1, "then the other queue does all");
    let timed_out = counts.timed_out;
    let queue = &channels.queues()[0];
    assert_eq!(queue.state, QueueState::Quarantined);
    assert_eq!(queue.text, "work queue wq0.0 stopped: 4 time-outs in a row; probed now and then");

    // The quarantine is over, the probe is not answered: twice as long now.
    device.pass(Duration::from_millis(150));
    compress(&channels, &pages);
    device.pass(Duration::from_millis(60));
    compress(&channels, &pages);
    let counts = channels.device_counts();
    assert_eq!((counts.probes, counts.probes_failed), (3, 1), "two of the probes were at the start");

    device.set_answers_noops(true);
    device.set_script(|_, _| Fate::Done);
    for _ in 0..4 {
        device.pass(Duration::from_millis(100));
        compress(&channels, &pages);
    }
    assert_eq!(channels.queues()[0].state, QueueState::Working);
    let before = device.offered();
    compress(&channels, &pages);
    assert!(device.offered() > before, "it is used again");
    assert_eq!(channels.device_counts().timed_out, timed_out);
}

#[test]
fn disabled_queue_is_left_and_opened_anew() {
    let device = TestDevice::new(|n, _| match n {
        5 => Fate::Refused(Refusal::Disabled),
        _ => Fate::Done,
    });
    let channels = channels(&device, 4);
    let pages = pages(20);
    let stored = compress(&channels, &pages);
    assert!(channels.fallbacks().no_queue > 0, "no other queue is there");
    assert_eq!(channels.device_counts().refused, 1);
    decompress(&channels, &pages, &stored);
    let before = channels.fallbacks();
    compress(&channels, &pages);
    assert_eq!(channels.device_counts().rescans, 1);
    assert_eq!(channels.fallbacks(), before, "it was found again");
}

#[test]
fn submission_that_is_not_permitted_stops_the_queue_until_a_probe_passes() {
    let device = TestDevice::new(|n, _| match n {
        0 => Fate::Refused(Refusal::Denied),
        _ => Fate::Done,
    });
    let channels = channels(&device, 4);
    compress(&channels, &pages(6));
    assert_eq!((channels.device_counts().quarantines, channels.device_counts().refused), (1, 1));
    assert_eq!(channels.queues()[0].text, "work queue wq0.0 stopped: submissions fail; probed now and then");
    device.pass(Duration::from_millis(101));
    compress(&channels, &pages(1));
    device.pass(Duration::from_micros(10));
    let before = device.offered();
    compress(&channels, &pages(6));
    assert_eq!(device.offered(), before + 6);
}

#[test]
fn queues_of_a_package_take_turns() {
    let devices: Vec<TestDevice> = (0..4).map(|_| TestDevice::new(|_, _| Fate::Done)).collect();
    let queues: Vec<_> = devices
        .iter()
        .enumerate()
        .map(|(k, device)| (device, QueueInfo { device: k as u32, ..named(&format!("wq{k}.0")) }))
        .collect();
    let channels = channels_of(&queues, 8, DirectConfig::default());
    let pages = pages(80);
    let stored = compress(&channels, &pages);
    decompress(&channels, &pages, &stored);
    assert_eq!(devices.iter().map(TestDevice::offered).collect::<Vec<_>>(), [40; 4]);
}

#[test]
fn loads_have_a_queue_of_their_own_where_a_device_has_several() {
    let stores = TestDevice::new(|_, _| Fate::Done);
    let loads = TestDevice::new(|_, _| Fate::Done);
    let queues =
        [(&stores, named("wq0.0")), (&loads, QueueInfo { priority: 15, capacity: 8, ..named("wq0.1") })];
    let channels = channels_of(&queues, 4, DirectConfig::default());
    let pages = pages(10);
    let stored = compress(&channels, &pages);
    assert_eq!((stores.offered(), loads.offered()), (10, 0));
    decompress(&channels, &pages, &stored);
    assert_eq!((stores.offered(), loads.offered()), (10, 10));
    assert!(
        channels.report().contains("wq0.1, 8 entries, by a script (shared), for loads"),
        "{}",
        channels.report()
    );
}

#[test]
fn credits_of_a_dedicated_queue_are_never_exceeded() {
    let device = TestDevice::new(|_, _| Fate::Done);
    let queue = QueueInfo { mode: QueueMode::Dedicated, capacity: 5, ..QueueInfo::default() };
    let channels = channels_of(&[(&device, queue)], 32, DirectConfig::default());
    let pages = pages(64);
    let stored = compress(&channels, &pages);
    decompress(&channels, &pages, &stored);
    assert_eq!(device.most_in_flight(), 5);
    assert!(channels.device_counts().no_credit > 0);
    assert_eq!(channels.fallbacks(), FallbackCounts::default());
}

#[test]
fn descriptors_go_together_where_a_call_costs_more_than_a_descriptor() {
    let device = TestDevice::new(|_, _| Fate::Done).with_batch(16);
    let channels = channels(&device, 8);
    compress(&channels, &pages(64));
    let batches = device.take_batches();
    assert_eq!(batches[0], 8);
    assert!(batches.len() <= 64 / 4, "four at a time at least: {batches:?}");
}

#[test]
fn backend_without_a_device_is_an_error_that_says_why() {
    let root = tempfile::tempdir().unwrap();
    let config = ChannelsConfig { backend: Backend::Direct, sysfs: root.path().into(), ..Default::default() };
    let error = Channels::new(config.clone(), &Topology::single_node()).unwrap_err().to_string();
    let expected = format!(
        "backend direct: no enabled IAA work queue under {}/bus/dsa/devices (found 0 devices, 0 queues of type user)",
        root.path().display()
    );
    assert_eq!(error, expected);
    let auto = ChannelsConfig { backend: Backend::Auto, ..config.clone() };
    let channels = Channels::new(auto, &Topology::single_node()).unwrap();
    assert!(channels.report().starts_with("software (chosen by auto: no enabled IAA work queue under "));
    let lz4 = ChannelsConfig { method: Some(Method::Lz4), ..config };
    let error = Channels::new(lz4, &Topology::single_node()).unwrap_err().to_string();
    assert_eq!(error, "backend direct compresses with deflate, not with lz4");
}

#[test]
fn queue_that_does_not_answer_when_it_is_opened_is_not_used() {
    let device = TestDevice::new(|_, _| Fate::Done);
    device.set_answers_noops(false);
    let queues = vec![device.queue(QueueInfo::default())];
    let error =
        Channels::with_queues(queues, &ChannelsConfig::default(), &Topology::single_node()).unwrap_err();
    let error = error.to_string();
    assert!(error.ends_with("work queue wq0.0 by a script: a no-op did not complete in time"), "{error}");
}
