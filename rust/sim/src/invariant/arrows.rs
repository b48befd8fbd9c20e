//! Status moves only along the arrows (DESIGN §4), and what is completed, skipped or cancelled never
//! re-opens. The table is written down a second time here, from the design, not from the machine.

use codec::row::Status::{self, *};

pub fn allowed(from: Status, to: Status) -> bool {
    let next: &[Status] = match from {
        Blocked => &[Ready, Delayed, Failed, Skipped, Cancelled],
        Delayed => &[Ready, Delayed, Failed, Cancelled],
        Waiting => &[Completed, Failed, Cancelled],
        Ready => &[Ready, Assigned, Delayed, Failed, Cancelled],
        Assigned => &[Running, Ready, Delayed, Parked, Completed, Failed, Cancelling, Cancelled],
        Running => &[Ready, Delayed, Parked, Completed, Failed, Cancelling, Cancelled],
        Cancelling => &[Completed, Failed, Cancelled],
        Parked => &[Ready, Failed, Cancelled],
        Failed => &[Ready],
        InputRequired | Completed | Skipped | Cancelled => &[],
    };
    next.contains(&to)
}
