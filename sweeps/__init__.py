"""Many runs over one configuration: what varies (`search`), running it (`runner`), and what came of it (`ledger`)."""
