"""The serving layer: HTTP application, receipts, log, store, updater and replica."""
