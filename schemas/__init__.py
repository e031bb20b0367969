"""What travels: the records as values, their Avro schemas (every version kept), the topics, and the providers' documents.

May import `kybstream` (errors, ids, privacy, settings) and nothing else of ours.
"""
