//! The chart without a cluster: its README says what its values do, and what it renders is what Kubernetes, from the
//! oldest version that it is for to the present one, understands. `chart.sh` installs what this runs.
#![expect(clippy::expect_used, clippy::panic, reason = "a panic here is a failed test")]

mod keda;
mod readme;
mod schemas;
mod valid;
