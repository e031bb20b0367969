"""The two providers' documents as code: what a body names (`identity`), and what it says (`kyb`, `kyc`).

Sources: the KYB provider's webhook page and the KYC provider's registration callback page, as of 2026; what they leave open
is listed in docs/explanation/providers.md.
"""
