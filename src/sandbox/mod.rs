//! The provider's stand-in: the same wire contract, a consent page, scripted faults.
