//! Parses database URLs and configures their drivers. Passwords never appear in messages or logs.

use std::fmt;
use std::time::Duration;

use sea_orm::ConnectOptions;
use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{self, ConnectOptions as _};

/// The maximum number of connections to a server: one writes, the others read.
const CONNECTIONS_MAX: u32 = 5;
/// How long to wait for another process that writes to the same file.
const WAIT: Duration = Duration::from_secs(2);

/// The address of a database.
pub(super) enum Address {
    /// A local file.
    Sqlite(String),
    /// `MySQL` or `MariaDB`.
    MySql(Box<MySqlConnectOptions>),
    /// `PostgreSQL`.
    Postgres(Box<PgConnectOptions>),
}

/// Why a URL is invalid.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AddressError {
    /// The scheme is not supported.
    Kind(String),
    /// The URL cannot be parsed.
    Unreadable {
        /// The scheme.
        scheme: String,
        /// The parser's error, which contains no part of the URL.
        why: String,
    },
}

impl Address {
    /// Parses `url`.
    pub(super) fn read(url: &str) -> Result<Self, AddressError> {
        let scheme = url.split(':').next().unwrap_or_default().to_owned();
        let unreadable =
            |why: sqlx::Error| AddressError::Unreadable { scheme: scheme.clone(), why: why.to_string() };
        match scheme.as_str() {
            "sqlite" => Ok(Self::Sqlite(url.to_owned())),
            "mysql" => Ok(Self::MySql(Box::new(url.parse().map_err(unreadable)?))),
            "postgres" | "postgresql" => Ok(Self::Postgres(Box::new(url.parse().map_err(unreadable)?))),
            _ => Err(AddressError::Kind(scheme)),
        }
    }

    /// Whether the database is a server, which may be unavailable at first.
    pub(super) fn is_server(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::MySql(_) | Self::Postgres(_) => true,
        }
    }

    /// The connection options; waiting for a connection takes at most `query_timeout`.
    pub(super) fn options(&self, query_timeout: Duration) -> ConnectOptions {
        // sea-orm records its options, including the URL, in a span, so the driver gets its own options separately.
        let mut options = match self {
            Self::Sqlite(url) => ConnectOptions::new(url),
            Self::MySql(_) => ConnectOptions::new("mysql://server"),
            Self::Postgres(_) => ConnectOptions::new("postgres://server"),
        };
        options.sqlx_logging(false);
        match self {
            Self::Sqlite(_) => {
                // Writes then do not wait for readers, nor each of them for the disk.
                options.map_sqlx_sqlite_opts(|options| {
                    let options = options.create_if_missing(true).busy_timeout(WAIT);
                    options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Normal)
                });
            }
            Self::MySql(own) => {
                let own = (**own).clone().disable_statement_logging();
                options.map_sqlx_mysql_opts(move |_| own.clone());
            }
            Self::Postgres(own) => {
                let own = (**own).clone().application_name("canopy-gateway").disable_statement_logging();
                options.map_sqlx_postgres_opts(move |_| own.clone());
            }
        }
        if self.is_server() {
            options.max_connections(CONNECTIONS_MAX).acquire_timeout(query_timeout).connect_lazy(true);
        }
        options
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut server = |scheme, host: &str, port, database: Option<&str>| {
            write!(f, "{scheme}://{host}:{port}/{}", database.unwrap_or_default())
        };
        match self {
            Self::Sqlite(url) => f.write_str(url),
            Self::MySql(own) => server("mysql", own.get_host(), own.get_port(), own.get_database()),
            Self::Postgres(own) => server("postgres", own.get_host(), own.get_port(), own.get_database()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        for (url, told) in [
            ("mysql://canopy:s3cret@db/canopy", "mysql://db:3306/canopy"),
            ("mysql://canopy:s3cret@db:3307/canopy?ssl-mode=REQUIRED", "mysql://db:3307/canopy"),
            ("postgres://canopy:s3cret@db/canopy", "postgres://db:5432/canopy"),
            ("postgresql://db:5433/canopy?user=canopy&password=s3cret", "postgres://db:5433/canopy"),
        ] {
            let address = Address::read(url).ok().unwrap();
            assert_eq!(address.to_string(), told);
            let logged = format!("{:?}", address.options(Duration::from_secs(2)));
            assert!(!logged.contains("s3cret"), "{logged}");
        }
        for url in
            ["mysql://canopy:s3/cret@db/canopy", "postgres://canopy:s3 cret@db:x/canopy", "oracle://s3cret"]
        {
            let error = format!("{:?}", Address::read(url).err().unwrap());
            assert!(!error.contains("s3"), "{error}");
        }
    }
}
