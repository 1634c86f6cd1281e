"""Views of the project, as they are needed."""

urlpatterns = []
