//! Counters for Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::health::{Health, Light};

#[derive(Default)]
pub struct Metrics {
    /// By the first digit of the status.
    requests: [AtomicU64; 6],
    micros: AtomicU64,
}

impl Metrics {
    pub fn answered(&self, status: u16, micros: u64) {
        if let Some(class) = self.requests.get(usize::from(status / 100)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Prometheus text, with `gauges` of the moment.
    pub fn text(&self, health: &Health, gauges: &[(&str, &str, u64)]) -> String {
        let mut out = String::with_capacity(2_048);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "# HELP strongroom_requests_total Requests answered, by class of status.\n# TYPE strongroom_requests_total counter"
        );
        for (class, count) in self.requests.iter().enumerate().skip(1) {
            let _ = writeln!(
                out,
                "strongroom_requests_total{{status=\"{class}xx\"}} {}",
                count.load(Ordering::Relaxed)
            );
        }
        let seconds = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(
            out,
            "# HELP strongroom_request_seconds_total Time spent answering.\n# TYPE strongroom_request_seconds_total counter\nstrongroom_request_seconds_total {seconds}"
        );
        for (name, help, value) in gauges {
            let _ = writeln!(
                out,
                "# HELP strongroom_{name} {help}\n# TYPE strongroom_{name} gauge\nstrongroom_{name} {value}"
            );
        }
        let _ = writeln!(
            out,
            "# HELP strongroom_subsystem_state 0 green, 1 amber, 2 red.\n# TYPE strongroom_subsystem_state gauge"
        );
        for subsystem in &health.subsystems {
            let state = match subsystem.state {
                Light::Green => 0,
                Light::Amber => 1,
                Light::Red => 2,
            };
            let _ = writeln!(
                out,
                "strongroom_subsystem_state{{subsystem=\"{}\"}} {state}",
                subsystem.name
            );
        }
        out
    }
}
