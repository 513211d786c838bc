//! How the process ends: the numbers of sysexits(3), and 1 for a flow that may not go on.

use sysexits::ExitCode;
use tonic::Code;

/// The part of `--help` that scripts rely on; `of_code` keeps it.
pub(super) const EXIT_CODES: &str = "\
Exit status:
   0  done
   1  refused as things stand: unknown session or state, already used, expired, declined, …; or what was
      checked is damaged
  64  wrong usage of cairlctl
  65  an argument or the input is not as the daemon wants it
  66  an input file cannot be read
  69  the daemon cannot be reached, or is unavailable
  70  an error inside cairlctl or the daemon
  74  the answer could not be written
  75  not now: the same command can be repeated, or ran out of time
  76  the daemon does not know this call
  77  the daemon does not know the caller, or does not grant the call; a token file others can read
 130  interrupted before what was waited for had come

Environment:
  CAIRLD_ENDPOINT    as --endpoint
  CAIRLD_TOKEN_FILE  as --token-file
  CAIRLD_CA, CAIRLD_CERT, CAIRLD_KEY  as --ca, --cert, --key";

/// How the process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Exit {
    /// Done.
    Success,
    /// The flow may not go on as things stand; sysexits(3) has no word for it.
    Refused,
    /// As sysexits(3) says.
    Because(ExitCode),
    /// A signal came before the end that the command waits for; as a shell tells of SIGINT.
    Interrupted,
}

impl Exit {
    pub(super) const USAGE: Self = Self::Because(ExitCode::Usage);
    pub(super) const DATA: Self = Self::Because(ExitCode::DataErr);
    pub(super) const INPUT: Self = Self::Because(ExitCode::NoInput);
    pub(super) const UNAVAILABLE: Self = Self::Because(ExitCode::Unavailable);
    pub(super) const SOFTWARE: Self = Self::Because(ExitCode::Software);
    pub(super) const OUTPUT: Self = Self::Because(ExitCode::IoErr);
    pub(super) const LATER: Self = Self::Because(ExitCode::TempFail);
    pub(super) const PROTOCOL: Self = Self::Because(ExitCode::Protocol);
    pub(super) const PERMISSION: Self = Self::Because(ExitCode::NoPerm);

    /// How to end after the daemon refused a call; `retryable` where it said that repeating is safe.
    pub(super) fn of_code(code: Code, retryable: bool) -> Self {
        if retryable {
            return Self::LATER;
        }
        match code {
            Code::ResourceExhausted | Code::DeadlineExceeded => Self::LATER,
            Code::Unavailable => Self::UNAVAILABLE,
            Code::Unauthenticated | Code::PermissionDenied => Self::PERMISSION,
            Code::InvalidArgument | Code::OutOfRange => Self::DATA,
            Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::Cancelled => Self::Refused,
            Code::Unimplemented => Self::PROTOCOL,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Self::SOFTWARE,
        }
    }

    /// The process's exit status.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Refused => 1,
            Self::Because(code) => code.into(),
            Self::Interrupted => 130,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::code_name;

    #[test]
    fn every_status_code_has_its_exit_status() {
        // By number, as the gRPC specification counts them.
        let expected = [70, 1, 70, 65, 75, 1, 1, 77, 75, 1, 1, 65, 76, 70, 69, 70, 77];
        for (number, exit) in (0..).zip(expected) {
            let code = Code::from_i32(number);
            assert_eq!(Exit::of_code(code, false).code(), exit, "{}", code_name(code));
            assert_eq!(Exit::of_code(code, true).code(), 75, "{}", code_name(code));
        }
    }

    #[test]
    fn help_lists_every_exit_status() {
        let listed: Vec<u8> =
            EXIT_CODES.lines().filter_map(|line| line.get(..4)?.trim().parse().ok()).collect();
        let used = [
            Exit::Success,
            Exit::Refused,
            Exit::USAGE,
            Exit::DATA,
            Exit::INPUT,
            Exit::UNAVAILABLE,
            Exit::SOFTWARE,
            Exit::OUTPUT,
            Exit::LATER,
            Exit::PROTOCOL,
            Exit::PERMISSION,
            Exit::Interrupted,
        ];
        assert_eq!(listed, used.map(Exit::code));
    }
}
