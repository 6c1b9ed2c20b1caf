//! `strongroom setting`.

use crate::api::setting::{SetSetting, SettingView, Settings};
use crate::cli::client::{Call, percent};
use crate::cli::door::Context;
use crate::error::Result;
use hyper::Method;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// All settings, with what they take
    List,
    /// Print one setting's value
    Get {
        /// Such as log.level
        #[arg(value_name = "CATEGORY.NAME")]
        name: String,
    },
    /// Change a setting, at once
    Set {
        /// Such as log.level
        #[arg(value_name = "CATEGORY.NAME")]
        name: String,
        /// What `strongroom setting list` says that it takes
        value: String,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let out = &context.out;
    match verb {
        Verb::List => {
            let settings: Settings = client.json(Call::get("/v1/settings")).await?;
            out.table(
                &settings,
                &settings.settings,
                &["name", "value", "default", "takes", "description"],
                |_, it| {
                    vec![
                        it.name.clone(),
                        it.value.clone(),
                        it.default.clone(),
                        it.takes.clone(),
                        it.description.clone(),
                    ]
                },
            )
        }
        Verb::Get { name } => {
            let setting: SettingView = client.json(Call::get(path(&name))).await?;
            if out.document(&setting)? {
                return Ok(());
            }
            out.line(&setting.value)
        }
        Verb::Set { name, value } => {
            let call = Call::new(Method::PUT, path(&name)).json(&SetSetting { value })?;
            let setting: SettingView = client.json(call).await?;
            out.talk(&format!("{} is {} now", setting.name, setting.value));
            out.document(&setting).map(|_| ())
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/settings/{}", percent(name))
}
