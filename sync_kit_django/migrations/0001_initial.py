"""Makes no table: the permissions come with the model."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []

    operations = [
        migrations.CreateModel(
            name="BackgroundJob",
            fields=[("id", models.CharField(max_length=300, primary_key=True, serialize=False))],
            options={
                "verbose_name": "background job",
                "verbose_name_plural": "background jobs",
                "managed": False,
                "base_manager_name": "objects",
                "default_permissions": ("view", "change", "delete"),
            },
        ),
    ]
