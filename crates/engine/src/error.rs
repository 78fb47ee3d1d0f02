//! Errors that people can act on: what failed, why, and what to do next.

use airlock_store::StoreError;

/// What an error means for the one who waits. It decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer is no: a policy that denies, a check that found something.
    No,
    /// Wrong usage or configuration.
    Usage,
    /// Refused as unsafe: a bad signature, an untrusted key, a replay, a hash that does not fit.
    Unsafe,
    /// An upstream, disk or network fault; running it again is safe.
    Fault,
}

/// An error of a use-case.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What it means.
    pub kind: Kind,
    /// What failed and why.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Somebody else moved a ref in between: what was to be done can be done again from the start.
    pub is_race: bool,
    /// The fault lies with this station's own disk or database, not with what it was asked to read.
    pub is_ours: bool,
    /// An object is missing or is not what its name says: where a bundle brought it, that is the bundle's fault.
    pub is_content: bool,
    /// Somebody who was asked says no: nothing is wrong with the bytes themselves, and the next answer may be another.
    pub is_opinion: bool,
}

/// What use-cases answer.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            is_race: false,
            is_ours: false,
            is_content: false,
            is_opinion: false,
        }
    }

    /// The answer is no.
    pub fn no(message: impl Into<String>) -> Self {
        Self::new(Kind::No, message)
    }

    /// Wrong usage or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Refused as unsafe. The next step is the same everywhere, unless a better one is given.
    pub fn unsafe_(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsafe, message).hint("nothing of it was taken; tell your security officer")
    }

    /// A fault from outside.
    pub fn fault(message: impl Into<String>) -> Self {
        Self::new(Kind::Fault, message)
    }

    /// What to do next; where nobody knows anything better, what may be done after any fault.
    pub fn next_step(&self) -> Option<&str> {
        let of_faults = "run it again, which goes on where this was; if it stays so, look after this machine's disk and network";
        self.hint.as_deref().or((self.kind == Kind::Fault).then_some(of_faults))
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says first what was being done.
    #[must_use]
    pub fn while_(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let kind = match error {
            StoreError::Hash { .. } => Kind::Unsafe,
            StoreError::Newer { .. } => Kind::Usage,
            _ => Kind::Fault,
        };
        let is_race = matches!(error, StoreError::Moved(_));
        let is_content =
            matches!(error, StoreError::MissingObject(_) | StoreError::Corrupt(_) | StoreError::Object(_));
        let hint = match error {
            StoreError::Database(_) | StoreError::File { .. } => Some(
                "check that this user may write to the station's directory and that the disk is not full",
            ),
            StoreError::MissingObject(_) | StoreError::Corrupt(_) | StoreError::Object(_) => {
                Some("the database was damaged or changed: restore it from a copy")
            }
            _ => None,
        };
        Self {
            is_race,
            is_content,
            is_ours: kind == Kind::Fault,
            hint: hint.map(str::to_owned),
            ..Self::new(kind, error.to_string())
        }
    }
}

impl From<airlock_core::object::ObjectError> for Error {
    fn from(error: airlock_core::object::ObjectError) -> Self {
        StoreError::from(error).into()
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::fault(format!("a value cannot be written as JSON: {error}"))
    }
}

/// Turns a file error into ours, with the path.
pub(crate) fn file_error(path: impl AsRef<std::path::Path>) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.as_ref().to_owned();
    move |e| {
        Error::fault(format!("{}: {e}", path.display()))
            .hint("check that it is there, that this user may use it, and that the disk is not full; then run it again")
    }
}

/// What a blocking task left behind; it only fails by panicking.
pub(crate) fn joined<T>(result: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    result.unwrap_or_else(|e| Err(Error::fault(format!("a worker stopped: {e}"))))
}
