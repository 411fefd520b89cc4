from django.http import HttpRequest, HttpResponse


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def readyz(request: HttpRequest) -> HttpResponse:
    return HttpResponse()
