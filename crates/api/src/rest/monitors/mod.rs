//! The drift monitor: monitors, windows, verdicts and actions.

mod monitor;
mod query;
mod score;
mod spec;
mod window;

pub use self::monitor::{Monitor, MonitorState, Monitors, OpenWindow};
pub use self::query::MonitorsQuery;
pub use self::score::{ColumnScore, WindowScores};
pub use self::spec::{ActionKind, ActionSpec, MonitorPatch, MonitorSpec, Thresholds, WindowSpec};
pub use self::window::{
    Action, ActionResult, ActionStatus, Actions, DriftEvidence, DriftVerdict, DriftVerdicts, VerdictKind,
    Window, Windows,
};
