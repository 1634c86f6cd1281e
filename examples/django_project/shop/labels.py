"""Labels: work for a processor, which another process does meanwhile."""


def draw_label(order):
    """Give the label of a parcel, a number that can be checked by its end."""
    number = 10**9 + order["id"]
    primes = [n for n in range(2, 2_000) if all(n % d for d in range(2, n))]
    return f"{number}-{sum(primes) * number % 97:02}"
