//! What an updater works with.

use std::path::PathBuf;
use std::sync::Arc;

use proto::{FarmId, GatewayId, TimeScale};

use crate::config::CloudConfig;
use crate::update::config::UpdatesConfig;
use crate::update::disk::{Disk, RealDisk};
use crate::update::link::Patience;

/// What an updater works with.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The farm.
    pub farm: FarmId,
    /// The gateway's name in it.
    pub gateway: GatewayId,
    /// How the farm's clock runs.
    pub time: TimeScale,
    /// The cloud that has the registry.
    pub cloud: CloudConfig,
    /// What an update may take.
    pub config: UpdatesConfig,
    /// The length of the windows that the gateway makes, in seconds.
    pub window_s: u32,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// How long the registry is waited for.
    pub patience: Patience,
    /// The disk.
    pub disk: Arc<dyn Disk>,
}

impl Setting {
    /// A setting with the usual patience and the machine's disk.
    #[must_use]
    pub fn new(
        (farm, gateway): (FarmId, GatewayId),
        time: TimeScale,
        cloud: CloudConfig,
        config: UpdatesConfig,
        window_s: u32,
        data_dir: PathBuf,
    ) -> Self {
        let (patience, disk) = (Patience::default(), Arc::new(RealDisk));
        Self { farm, gateway, time, cloud, config, window_s, data_dir, patience, disk }
    }
}
