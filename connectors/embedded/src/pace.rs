//! When each record of a replay is due. Nothing here reads a clock or sleeps: the moment is an argument.

use std::time::{Duration, Instant};

use pitwall_engine::Micros;

/// Longest sleep before the clock is looked at again.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How an archive is replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Session seconds a second; `f64::INFINITY` waits for nothing.
    pub speed: f64,
    /// Silences longer than this are shortened to it, ms of session time.
    pub silence_ms_max: i64,
    /// Records numbered below this go in at once.
    pub at_once_before: u64,
    /// Shortest sleep between two releases.
    pub wake_interval: Duration,
}

impl Pace {
    /// Session time `speed` times as fast, silences over 5 s skipped.
    #[must_use]
    pub const fn at(speed: f64) -> Self {
        Self { speed, silence_ms_max: 5_000, at_once_before: 0, wake_interval: Duration::from_millis(10) }
    }

    /// The same with everything before record `ingest_seq` at once.
    #[must_use]
    pub const fn starting_at(mut self, ingest_seq: u64) -> Self {
        self.at_once_before = ingest_seq;
        self
    }
}

/// Where a replay stands between session time and real time.
pub(crate) struct Pacer {
    pace: Pace,
    /// A real moment and the session time it stands for.
    clock: Option<(Instant, Micros)>,
    /// Arrival of the last record released.
    last: Option<Micros>,
}

impl Pacer {
    /// A replay whose next record is due at once.
    pub(crate) const fn new(pace: Pace) -> Self {
        Self { pace, clock: None, last: None }
    }

    /// How long record `ingest_seq`, which arrived at `received_at`, has to wait from `now` on before it is worth asking again, at
    /// `speed` session seconds a second. Zero when it is due.
    pub(crate) fn wait(&mut self, ingest_seq: u64, received_at: Micros, speed: f64, now: Instant) -> Duration {
        if ingest_seq < self.pace.at_once_before || !speed.is_finite() {
            self.rest();
            return Duration::ZERO;
        }
        let from = self.last.unwrap_or(received_at);
        let (since, at) = self.clock.unwrap_or((now, from));
        let mut at = at.plus((now.duration_since(since).as_secs_f64() * speed * 1e6).round() as i64);
        // A silence is shortened: session time jumps so close that only the permitted wait is left.
        let silence = self.pace.silence_ms_max.saturating_mul(1_000);
        if received_at.since(from) > silence {
            at = at.max(received_at.plus(-silence));
        }
        self.clock = Some((now, at));
        if received_at <= at {
            return Duration::ZERO;
        }
        let due = received_at.since(at) as f64 / 1e6 / speed;
        Duration::from_secs_f64(due.min(SLEEP_MAX.as_secs_f64())).max(self.pace.wake_interval)
    }

    /// Notes that the record which arrived at `received_at` has gone.
    pub(crate) const fn released(&mut self, received_at: Micros) {
        self.last = Some(received_at);
    }

    /// Session time stands still until the next question.
    pub(crate) const fn rest(&mut self) {
        self.clock = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000;

    /// A pacer and a clock that only its sleeps move.
    struct Bench {
        pacer: Pacer,
        start: Instant,
        now: Instant,
        next: u64,
        speed: f64,
    }

    impl Bench {
        fn new(pace: Pace) -> Self {
            let now = Instant::now();
            Self { pacer: Pacer::new(pace), start: now, now, next: 0, speed: pace.speed }
        }

        /// Sleeps as the pacer says until the record is due; returns ms of real time since the start.
        fn release(&mut self, received_at_ms: i64) -> u128 {
            let received_at = Micros(received_at_ms * MS);
            loop {
                let wait = self.pacer.wait(self.next, received_at, self.speed, self.now);
                if wait.is_zero() {
                    break;
                }
                self.now += wait;
            }
            self.pacer.released(received_at);
            self.next += 1;
            self.now.duration_since(self.start).as_millis()
        }
    }

    #[test]
    fn at_speed_n_session_time_passes_n_times_as_fast() {
        for (speed, expected) in [(1.0, 4_000), (20.0, 200), (0.5, 8_000), (400.0, 10)] {
            let mut bench = Bench::new(Pace::at(speed));
            assert_eq!(bench.release(0), 0, "the first record is due at once");
            assert_eq!(bench.release(4_000), expected, "{speed}");
        }
        let mut bench = Bench::new(Pace::at(f64::INFINITY));
        assert_eq!((bench.release(0), bench.release(3_600_000)), (0, 0), "an infinite speed waits for nothing");
    }

    #[test]
    fn small_waits_add_up_to_the_races_pace() {
        let mut bench = Bench::new(Pace::at(20.0));
        let last = (0..=20_000).map(|record| bench.release(record * 3)).last();
        // 60 s of session, each release no later than one sleep after it was due.
        assert!((3_000..=3_010).contains(&last.unwrap()), "{last:?}");
    }

    #[test]
    fn silences_over_the_limit_are_skipped_to_it_and_shorter_ones_are_kept() {
        let mut bench = Bench::new(Pace::at(10.0));
        bench.release(0);
        assert_eq!(bench.release(4_900), 490, "a silence of 4.9 s is kept");
        assert_eq!(bench.release(3_604_900), 490 + 500, "an hour lasts as long as 5 s");
        assert_eq!(bench.release(3_605_900), 990 + 100, "after it the pace is as before");
        let mut bench = Bench::new(Pace { silence_ms_max: 0, ..Pace::at(10.0) });
        bench.release(0);
        assert_eq!(bench.release(4_900), 0, "the limit is a setting");
    }

    #[test]
    fn what_lies_before_lights_out_goes_in_at_once_and_the_rest_at_its_pace() {
        let mut bench = Bench::new(Pace::at(1.0).starting_at(3));
        assert_eq!([0, 1_000, 3_000_000].map(|ms| bench.release(ms)), [0, 0, 0]);
        assert_eq!(bench.release(3_000_250), 250);
    }

    #[test]
    fn a_second_run_goes_on_without_making_up_for_the_time_between() {
        let mut bench = Bench::new(Pace::at(1.0));
        bench.next = 500;
        assert_eq!(bench.release(7_000_000), 0, "the first record it takes is due at once, wherever it lies");
        assert_eq!(bench.release(7_000_400), 400);
    }

    #[test]
    fn time_spent_at_rest_does_not_count() {
        let mut bench = Bench::new(Pace::at(1.0));
        bench.release(0);
        bench.pacer.rest();
        bench.now += Duration::from_secs(60);
        assert_eq!(bench.release(1_000), 61_000);
    }

    #[test]
    fn a_new_speed_counts_from_when_it_was_set() {
        let mut bench = Bench::new(Pace::at(1.0));
        bench.release(0);
        let half = bench.pacer.wait(1, Micros(4_000 * MS), bench.speed, bench.now + Duration::from_secs(2));
        assert_eq!(half, SLEEP_MAX, "2 s are left, but the clock is looked at every second");
        bench.now += Duration::from_secs(2);
        bench.speed = 10.0;
        assert_eq!(bench.release(4_000), 2_200);
    }

    #[test]
    fn a_replay_wakes_at_most_once_an_interval() {
        let mut pacer = Pacer::new(Pace::at(1_000.0));
        let now = Instant::now();
        pacer.released(Micros(0));
        assert_eq!(pacer.wait(1, Micros(1), 1_000.0, now), Duration::from_millis(10));
    }
}
