"""MEND: from proofs to rewrites that can be certified."""
