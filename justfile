# Everything a developer runs, by name. The README's two commands need none of this.

# Every test, as the README says.
test:
    tests/run

# Format and lint.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Measurements in the README.
bench:
    cargo run --release -p pitwall-bench

# Lines covered, by crate.
coverage:
    tests/coverage

# Dependencies against the policy.
deny:
    cargo deny check licenses bans sources

# Mutate the decoders' corpora for a while: `just fuzz sample_json 600`.
fuzz target seconds="300":
    cd schemas && cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}}

# Write golden files anew after a change that was meant.
bless:
    UPDATE_EXPECT=1 cargo test --profile ci --test golden

# Kill engines on a real broker sixty times at 60 times the race's pace: `docker/services up kafka` first.
kill-loop kills="60" speed="60" seed="20250831":
    PITWALL_KILLS={{kills}} PITWALL_KILL_SPEED={{speed}} PITWALL_KILL_SEED={{seed}} cargo test --profile ci --workspace --test kill -- --nocapture engines_killed
