"""Policy: pages may load what comes from here, and nothing that stands in them."""


def content_security_policy(get_response):
    """As Django 6.0's own middleware, for those before it too."""

    def answer(request):
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", "default-src 'self'")
        return response

    return answer
