//! Settings: read, change, and take effect at once.

use super::Service;
use super::caller::Context;
use crate::api::setting::{SetSetting, SettingView, Settings};
use crate::error::Result;

impl Service {
    pub async fn setting_list(&self, ctx: &Context) -> Result<Settings> {
        todo!()
    }
    pub async fn setting_show(&self, ctx: &Context, name: &str) -> Result<SettingView> {
        todo!()
    }
    pub async fn setting_set(
        &self,
        ctx: &Context,
        name: &str,
        request: SetSetting,
    ) -> Result<SettingView> {
        todo!()
    }
}
