"""`kyb-stream report`: its figures, asked of ClickHouse, and the page that shows them with charts.

`figures` are values, `asking` fills them, `reading` says what they mean in sentences, `sections` and `page` make HTML of them.
"""
