//! Engines of one group: one with a name of its own keeps its partitions over a quick restart.

mod deployment;

use deployment::{Deployment, Process, wait_for};

fn partitions(engine: &Process) -> Option<f64> {
    engine.metric("pitwall_group_partitions")
}

#[test]
fn a_named_engine_that_is_killed_and_comes_back_has_its_partitions_again_and_the_other_never_notices() {
    let mut deployment = Deployment::new("membership", 2);
    deployment.set("PITWALL_KAFKA__SESSION_TIMEOUT_MS", "60000");
    let mut start = |name: &str| {
        deployment.set("PITWALL_KAFKA__INSTANCE", name);
        deployment.start("engine")
    };
    // The first leads the group; what becomes of a leader's place is the broker's own affair.
    let other = start("other");
    wait_for("the first engine has both partitions", || partitions(&other).filter(|given| *given == 2.0));
    let named = start("named");
    for engine in [&other, &named] {
        wait_for("each engine has a partition", || partitions(engine).filter(|given| *given == 1.0));
    }
    let rebalances = other.metric("pitwall_group_rebalances_total");
    assert!(rebalances >= Some(1.0), "{rebalances:?}");

    named.signal("KILL");
    drop(named);
    let named = start("named");
    wait_for("it has its partition again, long before its place would be given away", || partitions(&named).filter(|given| *given == 1.0));
    assert_eq!(other.metric("pitwall_group_rebalances_total"), rebalances, "the other engine's partitions were not touched");
    assert_eq!(partitions(&other), Some(1.0));
}
