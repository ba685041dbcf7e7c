# SPDX-License-Identifier: Apache-2.0
# Tables and figures. They never train: both commands read the records that are there.


rule build_tables:
    input:
        jobs.records,
    output:
        jobs.table_files,
        report(jobs.table_pages, caption="../report/tables.rst", category="Tables"),
    log:
        f"results/{jobs.benchmark.name}/logs/tables.log",
    retries: 0
    params:
        file=jobs.file,
        config=jobs.tables_config,
        code=jobs.tables_code,
    message:
        "tables"
    shell:
        "dcae tables {params.file} 2>&1 | tee -i {log}"


rule draw_figures:
    input:
        jobs.records,
        jobs.sample_images,
    output:
        jobs.figure_files,
        report(jobs.figure_pictures, caption="../report/figures.rst", category="Figures"),
    log:
        f"results/{jobs.benchmark.name}/logs/figures.log",
    retries: 0
    params:
        file=jobs.file,
        config=jobs.tables_config,
        code=jobs.figures_code,
    message:
        "figures"
    shell:
        "dcae figures {params.file} 2>&1 | tee -i {log}"


# The same tables from whatever records there are; schedules nothing else.
rule tables:
    log:
        f"results/{jobs.benchmark.name}/logs/tables-only.log",
    retries: 0
    params:
        file=jobs.file,
    message:
        "tables from the records that are there"
    shell:
        "dcae tables {params.file} 2>&1 | tee -i {log}"
