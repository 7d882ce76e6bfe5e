//! Why a stack could not be looked at.

use crate::quote::quote;
use rustix::io::Errno;
use std::io;

/// Paths are seen from the top of the merged view, which is `/`.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    #[error("cannot read `{path}` of {tree}")]
    Read {
        path: String,
        tree: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot change `{path}` of {tree}")]
    Change {
        path: String,
        tree: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot look beyond `{path}` of {tree}: something is mounted there")]
    Mounted { path: String, tree: String },
    #[error(
        "cannot merge `{path}` of {tree}: its attribute `{attribute}` says that its files lie elsewhere"
    )]
    LiesElsewhere {
        path: String,
        tree: String,
        attribute: &'static str,
    },
    #[error("cannot look for `{path}`: it does not begin with `/`")]
    RelativePath { path: String },
    #[error("cannot look for `{path}`: it has `..` in it")]
    DotDot { path: String },
    #[error("cannot look for `{path}`: `{link}` is a link to `{target}`")]
    LinkOnTheWay {
        path: String,
        link: String,
        target: String,
        /// Where the link leads, as a path of the view.
        instead: String,
    },
    #[error("cannot find `{path}`: no layer has it")]
    Missing { path: String },
}

impl StackError {
    /// What the user can do about it, as one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            StackError::RelativePath { .. } | StackError::DotDot { .. } => {
                Some("say the whole path, from `/` on and without `..`.".into())
            }
            StackError::LinkOnTheWay { instead, .. } => {
                Some(format!("links are not followed; ask for `{instead}`."))
            }
            StackError::LiesElsewhere { .. } => Some(
                "cocker never makes such layers; make the image anew from its files as they should be."
                    .into(),
            ),
            _ => None,
        }
    }

    pub(super) fn reading(path: &[u8], tree: &str, errno: Errno) -> StackError {
        let (path, tree) = (shown(path), tree.to_string());
        match errno {
            Errno::XDEV => StackError::Mounted { path, tree },
            errno => StackError::Read {
                path,
                tree,
                source: errno.into(),
            },
        }
    }

    pub(super) fn changing(path: &[u8], tree: &str, errno: Errno) -> StackError {
        StackError::Change {
            path: shown(path),
            tree: tree.into(),
            source: errno.into(),
        }
    }
}

/// A path for an error; the top is `/`.
pub(super) fn shown(path: &[u8]) -> String {
    match path {
        b"" => "/".into(),
        path => quote(&String::from_utf8_lossy(path)),
    }
}
