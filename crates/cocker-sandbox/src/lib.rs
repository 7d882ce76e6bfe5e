//! From a plan to namespaces, mounts, ids, devices, a cgroup and a first process.
//!
//! ```text
//!  Plan ──prepare──▶ Prepared (descriptors only, no names) ──spawn──▶ Spawned ──go──▶ root process runs
//!  (data)            host root, outside                      supervisor-to-be and init-to-be
//! ```
//!
//! Nothing is ever mounted in the mount namespace of the caller. A plan is plain data and can be printed. This crate
//! knows nothing of containers, images or the messages between the residents: whoever calls it says what to execute
//! with which descriptors.
#![forbid(unsafe_code)]

mod assemble;
mod capabilities;
mod cgroup;
mod devices;
mod failure;
mod hosts;
mod label;
mod limits;
mod locked;
mod masks;
mod namespaces;
mod overlay;
mod plan;
mod prepare;
mod report;
mod resident;
pub mod rootless;
mod seccomp;
mod spawn;
mod stage;
mod target;

pub use capabilities::{Capability, CapabilitySet};
pub use cgroup::{
    Cgroup, Controller, DeviceKind, DeviceRule, DeviceUse, Freezer, Group, Hierarchies, LimitError,
    Place, UnitError, usual_devices,
};
pub use cgroup::{
    CpuTime, FigureReader, Figures, IoUse, MemoryUse, PidsUse, Pressure, Stall, Throttling,
};
pub use devices::DeviceNode;
pub use failure::{KernelAnswer, SandboxError, running_kernel};
pub use label::{Label, LabelError};
pub use limits::{
    HugePageLimit, IO_KEYS, IoLimit, Limits, MemoryLimit, OpenFiles, ProcessLimit, QUOTA_PERIOD,
};
pub use masks::{Mask, MaskKind, OwnSettings, usual_masks};
pub use namespaces::Namespaces;
pub use overlay::stack_alone;
pub use plan::{
    Access, BindIds, Confinement, CoreDumps, HostId, HostNames, IdRange, Mount, NetworkNamespace,
    OverlayRoot, Plan, Program, RootProcess, SIGRTMIN_PLUS_3, Source, Subtree, TargetKind,
};
pub use prepare::{Prepared, prepare};
pub use resident::{Descriptor, Supervisor, become_resident};
pub use seccomp::{Circumstances, Filter, ProfileError};
pub use spawn::{Spawned, spawn};
