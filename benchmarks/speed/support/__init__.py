"""What every speed measurement uses: data, machine facts, rows, trials in processes of their own.

May import `shards`.
"""
