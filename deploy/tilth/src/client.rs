//! The cloud as the command line sees it: its address, signing in, and its answers in one line.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::farm::{self, Secrets};

/// How long an answer may take. An upload over a thin line needs its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the cloud is, and who asks.
#[derive(Debug, Args)]
pub struct CloudArgs {
    /// The cloud's address, like https://tilth.example.org [default: the farm of --data-dir]
    #[arg(long, env = "TILTH_CLOUD", value_name = "URL", global = true)]
    cloud: Option<String>,
    /// Who signs in; the password is read from --password-file or TILTH_PASSWORD
    #[arg(long, env = "TILTH_EMAIL", value_name = "ADDRESS", global = true)]
    email: Option<String>,
    /// A file that holds the password
    #[arg(long, value_name = "FILE", global = true)]
    password_file: Option<PathBuf>,
    /// The directory of a farm that `tilth up` runs here: its cloud and its first user are taken
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// The farm, where the user has several
    #[arg(long, value_name = "FARM", global = true)]
    farm: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// Why the cloud did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be said where the cloud is, or who asks.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers there.
    #[error("the cloud at {url} does not answer: {reason}")]
    Away {
        /// Its address.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The password is wrong.
    #[error("the cloud at {url} does not let {email} in: {reason}")]
    Password {
        /// Its address.
        url: String,
        /// Who asked.
        email: String,
        /// What it said.
        reason: String,
    },
    /// It refused.
    #[error("{0}")]
    Refused(String),
}

impl ClientError {
    /// The exit code: 1 refused, 2 cannot begin, 3 the cloud is away, 4 not let in.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Away { .. } => 3,
            Self::Password { .. } => 4,
        }
    }
}

/// A session at the cloud.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    /// The farm that commands are about.
    pub farm: String,
}

#[derive(Deserialize)]
struct Me {
    farms: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct Problem {
    detail: String,
}

impl Client {
    /// Signs in.
    ///
    /// # Errors
    /// [`ClientError`], with its exit code.
    pub async fn sign_in(args: &CloudArgs) -> Result<Self, ClientError> {
        let (url, email, password) = credentials(args).map_err(|e| ClientError::Usage(crate::in_one_line(&e)))?;
        let http = reqwest::Client::builder()
            .cookie_store(true)
            .timeout(PATIENCE)
            .build()
            .map_err(|e| ClientError::Usage(e.to_string()))?;
        let mut client = Self { http, url, farm: String::new() };
        let login = client.request(Method::POST, "login");
        let login = login.json(&serde_json::json!({ "email": email, "password": password }));
        let (status, text) = client.send(login).await?;
        if !status.is_success() {
            return Err(ClientError::Password { url: client.url, email, reason: reason(status, &text) });
        }
        let me: Me = client.get("me").await?;
        client.farm = match &args.farm {
            Some(farm) => farm.clone(),
            None => match me.farms.as_slice() {
                [only] => only.id.clone(),
                [] => return Err(ClientError::Usage(format!("{email} has no farm"))),
                farms => {
                    let names: Vec<&str> = farms.iter().map(|farm| farm.id.as_str()).collect();
                    return Err(ClientError::Usage(format!("which farm? --farm with one of {}", names.join(", "))));
                }
            },
        };
        Ok(client)
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`ClientError`], with its exit code.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.answer(self.request(Method::GET, path)).await
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// [`ClientError`], with its exit code.
    pub async fn send_json(&self, method: Method, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.answer(self.request(method, path).json(body)).await
    }

    /// Uploads a form.
    ///
    /// # Errors
    /// [`ClientError`], with its exit code.
    pub async fn upload(&self, path: &str, form: Form) -> Result<Value, ClientError> {
        self.answer(self.request(Method::POST, path).multipart(form)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/api/v1/{path}", self.url))
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let (status, text) = self.send(request).await?;
        if !status.is_success() {
            return Err(ClientError::Refused(reason(status, &text)));
        }
        serde_json::from_str(&text).map_err(|error| {
            ClientError::Refused(format!("the cloud at {} gives an answer that is not understood: {error}", self.url))
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, String), ClientError> {
        let away = |error: reqwest::Error| {
            // The outermost text only names the address; the innermost says what happened.
            let error = anyhow::Error::from(error.without_url());
            ClientError::Away { url: self.url.clone(), reason: error.root_cause().to_string() }
        };
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        Ok((status, answer.text().await.map_err(away)?))
    }
}

/// What the cloud said, as an RFC 9457 problem or otherwise.
fn reason(status: StatusCode, text: &str) -> String {
    match serde_json::from_str::<Problem>(text) {
        Ok(problem) => problem.detail,
        Err(_) => format!("{status} {}", text.lines().next().unwrap_or_default()),
    }
}

fn credentials(args: &CloudArgs) -> anyhow::Result<(String, String, String)> {
    let password = match (&args.password_file, std::env::var("TILTH_PASSWORD")) {
        (Some(path), _) => Some(
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?.trim_end().to_owned(),
        ),
        (None, Ok(password)) => Some(password),
        (None, Err(_)) => None,
    };
    let (url, email, password) = match (&args.cloud, &args.email, password) {
        (Some(url), Some(email), Some(password)) => (url.clone(), email.clone(), password),
        (Some(_), None, _) => anyhow::bail!("who signs in? --email ADDRESS or TILTH_EMAIL"),
        (Some(_), _, None) => anyhow::bail!("no password: --password-file FILE or TILTH_PASSWORD"),
        (None, email, password) => {
            let dir = args.data_dir.clone().map_or_else(crate::up::default_data_dir, Ok)?;
            let (url, secret) = farm_here(&dir)?;
            (url, email.clone().unwrap_or_else(|| farm::USER.to_owned()), password.unwrap_or(secret))
        }
    };
    Ok((url.trim_end_matches('/').to_owned(), email, password))
}

/// The cloud of the farm that runs here, and its first user's password.
fn farm_here(dir: &Path) -> anyhow::Result<(String, String)> {
    #[derive(Deserialize)]
    struct Ready {
        http: String,
    }
    let path = dir.join("run/cloud.json");
    let ready = fs::read_to_string(&path)
        .with_context(|| format!("no farm runs in {}: say --cloud URL, or --data-dir DIR", dir.display()))?;
    let ready: Ready = serde_json::from_str(&ready).with_context(|| format!("{} is not understood", path.display()))?;
    let secrets = Secrets::open(dir, std::iter::empty())?;
    Ok((format!("http://{}", ready.http), secrets.user))
}
