//! Guest suites as host test cases.
